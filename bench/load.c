/*
 * Load between two containers: one thread that sends as fast as it can, and servers as simple as they can be.
 *
 *	load serve PORT                          until killed: PORT swallows, PORT + 1 echoes, PORT + 2 accepts and closes
 *	load stream ADDRESS PORT SECONDS         bits a second that a TCP connection carried
 *	load ask ADDRESS PORT SECONDS            one byte there, one byte back: rounds, their p50, p90 and p99; CPU time; in nanoseconds
 *	load connect ADDRESS PORT SECONDS RATE   connections opened and reset, RATE a second or 0: how many; those that failed; CPU time
 *
 * What is measured is printed as one line of numbers. Pin server and client to different CPUs from outside.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define BILLION 1000000000ULL
#define CHUNK (128 << 10)
#define ROUNDS (1 << 22)

enum { SWALLOW, ECHO, ACCEPT, SERVERS };

static char chunk[CHUNK];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t now(void)
{
	struct timespec at;

	clock_gettime(CLOCK_MONOTONIC, &at);
	return at.tv_sec * BILLION + at.tv_nsec;
}

static uint64_t used(void)
{
	struct timespec at;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at);
	return at.tv_sec * BILLION + at.tv_nsec;
}

/* ---- servers ---- */

static void talk(int server, int fd)
{
	ssize_t got;
	int on = 1;

	if (server == ACCEPT)
		return;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	while ((got = recv(fd, chunk, server == ECHO ? 1 : CHUNK, 0)) > 0) {
		if (server == ECHO && send(fd, chunk, got, 0) != got)
			return;
	}
}

static void serve_one(int server, int listener)
{
	for (;;) {
		int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (fd < 0)
			continue;
		talk(server, fd);
		close(fd);
	}
}

static int listener_on(int port)
{
	struct sockaddr_in6 at = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	int fd = socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) || listen(fd, 4096))
		fail("listen");
	return fd;
}

static int serve(int port)
{
	for (int server = 0; server < SERVERS; server++) {
		int listener = listener_on(port + server);

		switch (fork()) {
		case -1:
			fail("fork");
			break;
		case 0:
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			serve_one(server, listener);
		}
		close(listener);
	}
	printf("ready\n");
	fflush(stdout);
	while (wait(NULL) > 0)
		;
	return 1;
}

/* ---- clients ---- */

struct target {
	struct sockaddr_storage address;
	socklen_t length;
};

static struct target target_of(const char *address, int port)
{
	struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	struct target target = { 0 };

	if (inet_pton(AF_INET, address, &v4.sin_addr) == 1) {
		memcpy(&target.address, &v4, sizeof(v4));
		target.length = sizeof(v4);
	} else if (inet_pton(AF_INET6, address, &v6.sin6_addr) == 1) {
		memcpy(&target.address, &v6, sizeof(v6));
		target.length = sizeof(v6);
	} else {
		fprintf(stderr, "%s is no address\n", address);
		exit(2);
	}
	return target;
}

static int try_connect(const struct target *target)
{
	int fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0)
		fail("socket");
	if (connect(fd, (const struct sockaddr *)&target->address, target->length)) {
		close(fd);
		return -1;
	}
	return fd;
}

static int connected(const struct target *target)
{
	int fd = try_connect(target), on = 1;

	if (fd < 0)
		fail("connect");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return fd;
}

static void stream(const struct target *target, double seconds)
{
	int fd = connected(target);
	uint64_t start = now(), end = start + seconds * BILLION, sent = 0;

	while (now() < end) {
		ssize_t got = send(fd, chunk, CHUNK, 0);

		if (got < 0)
			fail("send");
		sent += got;
	}
	printf("%.0f\n", sent * 8.0 * BILLION / (now() - start));
}

static int compare(const void *one, const void *other)
{
	uint32_t a = *(const uint32_t *)one, b = *(const uint32_t *)other;

	return (a > b) - (a < b);
}

static void ask(const struct target *target, double seconds)
{
	uint32_t *took = calloc(ROUNDS, sizeof(*took));
	uint64_t last = now(), end = last + seconds * BILLION;
	int fd = connected(target);
	unsigned long rounds = 0;
	uint64_t begin = used();

	if (!took)
		fail("calloc");
	while (last < end && rounds < ROUNDS) {
		uint64_t before = now();

		if (send(fd, chunk, 1, 0) != 1 || recv(fd, chunk, 1, 0) != 1)
			fail("ask");
		last = now();
		took[rounds++] = last - before;
	}
	begin = used() - begin;
	qsort(took, rounds, sizeof(*took), compare);
	printf("%lu %u %u %u %lu\n", rounds, took[rounds / 2], took[rounds * 9 / 10], took[rounds * 99 / 100], begin);
}

/* Reset at once: nothing is left in TIME-WAIT, so the ports suffice for any rate. */
static bool open_and_reset(const struct target *target)
{
	struct linger reset = { .l_onoff = 1, .l_linger = 0 };
	int fd = try_connect(target);

	if (fd < 0)
		return false;
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset));
	close(fd);
	return true;
}

static void open_many(const struct target *target, double seconds, double rate)
{
	uint64_t start = now(), end = start + seconds * BILLION, at;
	unsigned long opened = 0, failed = 0;

	while ((at = now()) < end) {
		double due = rate * (at - start) / BILLION;

		if (rate && opened + failed > due) {
			usleep(1000);
			continue;
		}
		if (open_and_reset(target))
			opened++;
		else
			failed++;
	}
	printf("%lu %lu %lu\n", opened, failed, used());
}

int main(int count, char **words)
{
	struct target target;
	double seconds;

	if (count == 3 && !strcmp(words[1], "serve"))
		return serve(atoi(words[2]));
	if (count < 5)
		return 2;
	target = target_of(words[2], atoi(words[3]));
	seconds = atof(words[4]);
	if (!strcmp(words[1], "stream"))
		stream(&target, seconds);
	else if (!strcmp(words[1], "ask"))
		ask(&target, seconds);
	else if (!strcmp(words[1], "connect") && count == 6)
		open_many(&target, seconds, atof(words[5]));
	else
		return 2;
	return 0;
}
