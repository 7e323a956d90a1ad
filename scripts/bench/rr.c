/*
 * Requests and responses of 64 bytes over one loopback connection, as fast as one process plays both ends: the traffic
 * that a tracer of connections should not slow down at all.
 *
 *     rr COUNT
 *
 * Prints round trips per second.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static void must(int fine, const char *what)
{
	if (!fine) {
		perror(what);
		exit(1);
	}
}

static double now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec + at.tv_nsec / 1e9;
}

static void pass(int from, int to)
{
	char message[64] = {0};

	must(write(from, message, sizeof(message)) == sizeof(message), "write");
	must(recv(to, message, sizeof(message), MSG_WAITALL) == sizeof(message), "recv");
}

int main(int argc, char **argv)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t size = sizeof(address);
	int listener, client, server, on = 1;
	long count = argc == 2 ? strtol(argv[1], NULL, 10) : 0;
	double began;

	if (count <= 0) {
		fprintf(stderr, "usage: rr COUNT\n");
		return 2;
	}
	listener = socket(AF_INET, SOCK_STREAM, 0);
	must(listener >= 0, "socket");
	must(bind(listener, (struct sockaddr *)&address, size) == 0, "bind");
	must(listen(listener, 1) == 0, "listen");
	must(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");
	client = socket(AF_INET, SOCK_STREAM, 0);
	must(client >= 0, "socket");
	must(connect(client, (struct sockaddr *)&address, size) == 0, "connect");
	server = accept(listener, NULL, NULL);
	must(server >= 0, "accept");
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(server, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));

	began = now();
	for (long i = 0; i < count; i++) {
		pass(client, server);
		pass(server, client);
	}
	printf("%.1f\n", count / (now() - began));
	return 0;
}
