/*
 * Connections as fast as one process makes them: connect, accept, close both ends, again and again.
 *
 *     churn COUNT HOST close|reset [RATE]
 *
 * HOST is a loopback address. "close": the client closes first, in good order, and stays behind in TIME-WAIT; "reset":
 * the client resets (SO_LINGER of 0 seconds), and nothing stays. RATE: so many a second, evenly. Prints connections per
 * second.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

int main(int argc, char **argv)
{
	struct linger at_once = {.l_onoff = 1, .l_linger = 0};
	struct sockaddr_in address = {.sin_family = AF_INET};
	socklen_t size = sizeof(address);
	int listener, reset;
	long count;
	double began, rate;

	if (argc < 4 || argc > 5 || inet_pton(AF_INET, argv[2], &address.sin_addr) != 1) {
		fprintf(stderr, "usage: churn COUNT HOST close|reset [RATE]\n");
		return 2;
	}
	count = strtol(argv[1], NULL, 10);
	rate = argc == 5 ? strtod(argv[4], NULL) : 0;
	reset = strcmp(argv[3], "reset") == 0;
	listener = socket(AF_INET, SOCK_STREAM, 0);
	must(listener >= 0, "socket");
	must(bind(listener, (struct sockaddr *)&address, size) == 0, "bind");
	must(listen(listener, 4096) == 0, "listen");
	must(getsockname(listener, (struct sockaddr *)&address, &size) == 0, "getsockname");

	began = now();
	for (long i = 0; i < count; i++) {
		int client = socket(AF_INET, SOCK_STREAM, 0), server;
		double early = rate ? i / rate - (now() - began) : 0;

		if (early > 0)
			usleep(early * 1e6);
		must(client >= 0, "socket");
		must(connect(client, (struct sockaddr *)&address, size) == 0, "connect");
		server = accept(listener, NULL, NULL);
		must(server >= 0, "accept");
		if (reset)
			setsockopt(client, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		close(client);
		close(server);
	}
	printf("%.1f\n", count / (now() - began));
	return 0;
}
