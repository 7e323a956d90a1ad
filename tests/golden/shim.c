/* Stands between a program and sock_diag: whoever is started with LD_PRELOAD=shim.so and DIAG_ANSWERS=DIR gets the
 * bytes of DIR/FAMILY.diag, or DIR/FAMILY.PROTOCOL.diag of an inet table (both decimal), as the answer to a dump,
 * whatever the kernel knows of that table; without such a file, the kernel's answer for a missing module, ENOENT. So the
 * real ss can be asked how it prints tables that this machine's kernel was built without.
 *
 * Only for recording what tests expect, see record.py: cc -shared -fPIC -o shim.so shim.c
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/netlink.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { DESCRIPTORS = 256, LONGEST = 16384 };

static struct answer {
	int ours;
	char *bytes;
	size_t size, at;
} answers[DESCRIPTORS];

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static struct answer *of(int fd)
{
	return fd >= 0 && fd < DESCRIPTORS && answers[fd].ours ? &answers[fd] : NULL;
}

int socket(int domain, int type, int protocol)
{
	int fd = REAL(socket)(domain, type, protocol);

	if (fd >= 0 && fd < DESCRIPTORS) {
		free(answers[fd].bytes);
		memset(&answers[fd], 0, sizeof(answers[fd]));
		answers[fd].ours = domain == AF_NETLINK && protocol == 4 && getenv("DIAG_ANSWERS");
	}
	return fd;
}

int close(int fd)
{
	struct answer *answer = of(fd);

	if (answer)
		answer->ours = 0;
	return REAL(close)(fd);
}

static void prepare(struct answer *answer, const char *request, size_t size)
{
	const struct nlmsghdr *asked = (const void *)request;
	unsigned family = (unsigned char)request[16], protocol = (unsigned char)request[17];
	int inet = family == AF_INET || family == AF_INET6, fd = -1;
	char path[4096];

	/* struct inet_diag_req_v2 is 56 bytes; the attribute behind it that widens the protocol is number 3. */
	if (inet)
		for (size_t at = 72; at + 8 <= size;) {
			uint16_t head[2];

			memcpy(head, request + at, 4);
			if (head[1] == 3)
				memcpy(&protocol, request + at + 4, 4);
			if (head[0] < 4)
				break;
			at += (head[0] + 3) & ~3;
		}
	if (asked->nlmsg_type == 20) {
		snprintf(path, sizeof(path), inet ? "%s/%u.%u.diag" : "%s/%u.diag", getenv("DIAG_ANSWERS"), family, protocol);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	free(answer->bytes);
	answer->bytes = calloc(1, 1 << 22);
	answer->at = 0;
	if (fd >= 0) {
		answer->size = read(fd, answer->bytes, 1 << 22);
		REAL(close)(fd);
	} else {
		struct { struct nlmsghdr head; int error; struct nlmsghdr about; } refusal = {
			{ sizeof(refusal), NLMSG_ERROR, 0, 0, 0 }, -ENOENT, *asked };

		memcpy(answer->bytes, &refusal, sizeof(refusal));
		answer->size = sizeof(refusal);
	}
	for (size_t at = 0; at + 16 <= answer->size;) {
		struct nlmsghdr *head = (void *)(answer->bytes + at);

		head->nlmsg_seq = asked->nlmsg_seq;
		head->nlmsg_pid = 0;
		if (head->nlmsg_len < 16)
			break;
		at += (head->nlmsg_len + 3) & ~3;
	}
}

static void stamp(struct answer *answer, int fd)
{
	struct sockaddr_nl self = { 0 };
	socklen_t size = sizeof(self);

	getsockname(fd, (void *)&self, &size);
	for (size_t at = answer->at; at + 16 <= answer->size;) {
		struct nlmsghdr *head = (void *)(answer->bytes + at);

		head->nlmsg_pid = self.nl_pid;
		if (head->nlmsg_len < 16)
			break;
		at += (head->nlmsg_len + 3) & ~3;
	}
}

ssize_t sendmsg(int fd, const struct msghdr *message, int flags)
{
	struct answer *answer = of(fd);
	char request[65536 * 2] = { 0 };
	size_t size = 0;

	if (!answer)
		return REAL(sendmsg)(fd, message, flags);
	for (size_t i = 0; i < message->msg_iovlen; i++) {
		size_t piece = message->msg_iov[i].iov_len;

		if (size + piece > sizeof(request))
			break;
		memcpy(request + size, message->msg_iov[i].iov_base, piece);
		size += piece;
	}
	prepare(answer, request, size);
	stamp(answer, fd);
	return size;
}

ssize_t sendto(int fd, const void *data, size_t size, int flags, const struct sockaddr *to, socklen_t length)
{
	struct iovec piece = { (void *)data, size };
	struct msghdr message = { (void *)to, length, &piece, 1, NULL, 0, 0 };

	return of(fd) ? sendmsg(fd, &message, flags) : REAL(sendto)(fd, data, size, flags, to, length);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
	return of(fd) ? sendto(fd, data, size, flags, NULL, 0) : REAL(send)(fd, data, size, flags);
}

ssize_t recvmsg(int fd, struct msghdr *message, int flags)
{
	struct answer *answer = of(fd);
	size_t size = 0, copied = 0;

	if (!answer)
		return REAL(recvmsg)(fd, message, flags);
	/* A datagram: as many whole messages as fit; the last (DONE) on its own, as the kernel sends it. */
	while (answer->at + size + 16 <= answer->size) {
		const struct nlmsghdr *head = (const void *)(answer->bytes + answer->at + size);
		size_t next = (head->nlmsg_len + 3) & ~3;

		if (size && (size + next > LONGEST || head->nlmsg_type == NLMSG_DONE))
			break;
		size += next;
	}
	if (answer->at + size > answer->size)
		size = answer->size - answer->at;
	if (!size) {
		errno = EAGAIN;
		return -1;
	}
	for (size_t i = 0; i < message->msg_iovlen && copied < size; i++) {
		size_t piece = message->msg_iov[i].iov_len;

		if (piece > size - copied)
			piece = size - copied;
		memcpy(message->msg_iov[i].iov_base, answer->bytes + answer->at + copied, piece);
		copied += piece;
	}
	if (message->msg_name && message->msg_namelen >= sizeof(struct sockaddr_nl)) {
		memset(message->msg_name, 0, sizeof(struct sockaddr_nl));
		((struct sockaddr_nl *)message->msg_name)->nl_family = AF_NETLINK;
		message->msg_namelen = sizeof(struct sockaddr_nl);
	}
	message->msg_flags = copied < size ? MSG_TRUNC : 0;
	message->msg_controllen = 0;
	if (!(flags & MSG_PEEK))
		answer->at += size;
	return flags & MSG_TRUNC ? size : copied;
}

ssize_t recvfrom(int fd, void *data, size_t size, int flags, struct sockaddr *from, socklen_t *length)
{
	struct iovec piece = { data, size };
	struct msghdr message = { from, length ? *length : 0, &piece, 1, NULL, 0, 0 };

	return of(fd) ? recvmsg(fd, &message, flags) : REAL(recvfrom)(fd, data, size, flags, from, length);
}

ssize_t recv(int fd, void *data, size_t size, int flags)
{
	return of(fd) ? recvfrom(fd, data, size, flags, NULL, NULL) : REAL(recv)(fd, data, size, flags);
}
