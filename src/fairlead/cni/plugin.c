// SPDX-License-Identifier: Apache-2.0
/*
 * The program that container runtimes execute: the CNI plugins `fairlead`, `fairlead-ipam` and `loopback`.
 *
 * It carries one request to the agent and its answer back, and decides nothing:
 *
 *     environment, stdin  -->  POST /cni over the agent's unix socket  -->  stdout, exit status
 *
 * Three things it must do without an agent: answer VERSION; say at once, as a CNI error, that the agent is not running;
 * and remember a DEL, as a file that holds the very request that could not be delivered (cni/pending.py finishes it).
 *
 * `loopback` needs no agent at all: containerd executes it beside every network's plugin, whoever's that is, to have lo up.
 *
 * It is C because a runtime waits for it: a static program starts in a third of a millisecond, an interpreter in seven.
 * It must not grow: no configuration is read here, and no JSON is understood beyond the version to answer in.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_STDIN	(1 << 20)	/* the agent's own bound, api/wire.py */
#define MAX_REPLY	(4 << 20)
#define MAX_VALUE	8000		/* one header; the agent's server takes lines of up to 8190 bytes */
#define MAX_HEAD	(9 * MAX_VALUE)
#define DEFAULT_TIMEOUT	30.0
#define LONGEST_TIMEOUT	3600.0

#define COUNT(array)	(sizeof(array) / sizeof((array)[0]))

/* The error codes of the CNI specification. */
enum code {
	BAD_ENVIRONMENT = 4,
	IO_FAILURE = 5,
	UNDECODABLE = 6,
	BAD_CONFIG = 7,
	TRY_LATER = 11,
	NOT_AVAILABLE = 50,
	REFUSED_BY_KERNEL = 104,	/* from here on our own, docs/cni.md */
	DIFFERENT = 110,
};

enum outcome { ANSWERED, NOT_RUNNING, LOST };

static const char *const versions[] = { "1.1.0", "1.0.0", "0.4.0", "0.3.1" };

static const struct {
	const char *variable, *header;
} passed[] = {
	{ "CNI_COMMAND", "X-CNI-Command" },
	{ "CNI_CONTAINERID", "X-CNI-ContainerID" },
	{ "CNI_NETNS", "X-CNI-Netns" },
	{ "CNI_IFNAME", "X-CNI-IfName" },
	{ "CNI_ARGS", "X-CNI-Args" },
	{ "CNI_PATH", "X-CNI-Path" },
	{ "CNI_NETNS_OVERRIDE", "X-CNI-Netns-Override" },
};

static char config[MAX_STDIN + 1], head[MAX_HEAD], reply[MAX_REPLY + 1];
static size_t config_length, head_length, body_length;
static char *body;		/* of the reply */
static int http_status;
static char reason[512];	/* why there is no answer */
static const char *version = "1.1.0";
static long long deadline;

static long long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000LL + now.tv_nsec / 1000000;
}

static int left_ms(void)
{
	long long left = deadline - now_ms();

	return left > 0 ? (int)left : 0;
}

static double timeout_seconds(void)
{
	const char *text = getenv("FAIRLEAD_CNI_TIMEOUT");
	char *end;
	double seconds = text ? strtod(text, &end) : 0;

	return seconds > 0 && seconds <= LONGEST_TIMEOUT && !*end ? seconds : DEFAULT_TIMEOUT;
}

/* Whether `fd` became ready, or broke, before the deadline. */
static bool wait_for(int fd, short events)
{
	struct pollfd ready = { .fd = fd, .events = events };
	int woken;

	do
		woken = poll(&ready, 1, left_ms());
	while (woken < 0 && errno == EINTR);
	return woken > 0;
}

static bool write_all(int fd, const char *data, size_t length)
{
	while (length && wait_for(fd, POLLOUT)) {
		ssize_t done = write(fd, data, length);

		if (done < 0 && errno != EINTR && errno != EAGAIN)
			return false;
		if (done > 0) {
			data += done;
			length -= (size_t)done;
		}
	}
	return !length;
}

/* Whatever the environment or a file held, it stands between the quotes of a JSON string now. */
static void make_plain(char *text)
{
	for (char *at = text; *at; at++)
		if (*at < 0x20 || *at > 0x7e || *at == '"' || *at == '\\')
			*at = '?';
}

/* Answer with a CNI error: what is wrong, formatted, and what to do, as it is. The exit status. */
__attribute__((format(printf, 3, 4)))
static int fail(enum code code, const char *details, const char *format, ...)
{
	char message[1024];
	va_list values;

	va_start(values, format);
	vsnprintf(message, sizeof(message), format, values);
	va_end(values);
	make_plain(message);
	dprintf(STDOUT_FILENO, "{\"cniVersion\":\"%s\",\"code\":%d,\"msg\":\"%s\",\"details\":\"%s\"}\n", version, code, message,
		details);
	return 1;
}

__attribute__((format(printf, 2, 3)))
static enum outcome lost(enum outcome outcome, const char *format, ...)
{
	va_list values;

	va_start(values, format);
	vsnprintf(reason, sizeof(reason), format, values);
	va_end(values);
	return outcome;
}

/* 0, or the exit status after an error was printed. */
static int read_config(void)
{
	ssize_t got;

	do {
		if (!wait_for(STDIN_FILENO, POLLIN))
			return fail(IO_FAILURE, "end the network configuration with end of file", "stdin was not closed in time");
		got = read(STDIN_FILENO, config + config_length, sizeof(config) - config_length);
		if (got < 0 && errno != EINTR && errno != EAGAIN)
			return fail(IO_FAILURE, "", "cannot read stdin: %s", strerror(errno));
		config_length += got > 0 ? (size_t)got : 0;
	} while (got && config_length <= MAX_STDIN);
	if (config_length <= MAX_STDIN)
		return 0;
	return fail(UNDECODABLE, "", "the network configuration has more than %d bytes", MAX_STDIN);
}

/* One past the closing quote of the JSON string that begins at `at`. */
static const char *string_end(const char *at, const char *end)
{
	for (at++; at < end && *at != '"'; at++)
		if (*at == '\\')
			at++;
	return at < end ? at + 1 : end;
}

/* Answer in the version that the configuration names at its top level, if it is one that is spoken here. */
static void choose_version(void)
{
	static const char key[] = "\"cniVersion\"";
	const char *at = config, *end = config + config_length;
	int depth = 0;

	while (at < end) {
		const char *start = at;

		depth += (*at == '{' || *at == '[') - (*at == '}' || *at == ']');
		at = *at == '"' ? string_end(at, end) : at + 1;
		if (depth != 1 || at - start != sizeof(key) - 1 || memcmp(start, key, sizeof(key) - 1))
			continue;
		at += strspn(at, " \t\r\n:");
		for (size_t i = 0; i < COUNT(versions); i++)
			if (*at == '"' && !strncmp(at + 1, versions[i], 5) && at[6] == '"')
				version = versions[i];
		return;
	}
}

static int print_version(void)
{
	static const char answer[] = "{\"cniVersion\":\"%s\",\"supportedVersions\":[\"0.3.1\",\"0.4.0\",\"1.0.0\",\"1.1.0\"]}\n";

	return dprintf(STDOUT_FILENO, answer, version) < 0;
}

__attribute__((format(printf, 1, 2)))
static void add(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	head_length += (size_t)vsnprintf(head + head_length, sizeof(head) - head_length, format, values);
	va_end(values);
}

/* 0, or the exit status after an error was printed: a value that would break out of its header is refused here. */
static int write_head(const char *program)
{
	add("POST /cni HTTP/1.1\r\nHost: fairlead\r\nConnection: close\r\nContent-Type: application/json\r\n");
	add("Content-Length: %zu\r\nX-CNI-Plugin: %s\r\n", config_length, program);
	for (size_t i = 0; i < COUNT(passed); i++) {
		const char *value = getenv(passed[i].variable);

		for (const char *at = value; at && *at; at++)
			if ((unsigned char)*at < 0x20 || *at == 0x7f || at - value >= MAX_VALUE)
				return fail(BAD_ENVIRONMENT, "", "%s holds a control character or more than %d bytes",
					    passed[i].variable, MAX_VALUE);
		if (value)
			add("%s: %s\r\n", passed[i].header, value);
	}
	add("\r\n");
	return 0;
}

static const char *directory(const char *variable, const char *otherwise)
{
	const char *path = getenv(variable);

	return path && *path ? path : otherwise;
}

/* ANSWERED means connected here. An agent that is there but busy is waited for; none at all is an answer at once. */
static enum outcome connect_agent(int fd)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval left = { .tv_sec = left_ms() / 1000, .tv_usec = left_ms() % 1000 * 1000 + 1 };
	const char *folder = directory("FAIRLEAD_RUN_DIR", "/run/fairlead");

	if (snprintf(address.sun_path, sizeof(address.sun_path), "%s/agent.sock", folder) >= (int)sizeof(address.sun_path))
		return lost(LOST, "FAIRLEAD_RUN_DIR is too long for the path of a socket");
	if (!setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &left, sizeof(left)) &&
	    !connect(fd, (struct sockaddr *)&address, sizeof(address)) && !fcntl(fd, F_SETFL, O_NONBLOCK))
		return ANSWERED;
	return lost(errno == ENOENT || errno == ECONNREFUSED ? NOT_RUNNING : LOST, "%s: %s", address.sun_path,
		    errno == EAGAIN ? "too busy to accept a connection" : strerror(errno));
}

/* Whether all of the reply is there; if so, its parts are known. */
static bool complete(size_t got)
{
	char *end = memmem(reply, got, "\r\n\r\n", 4), *field;

	if (!end || sscanf(reply, "HTTP/1.%*1d %3d", &http_status) != 1)
		return false;
	*end = '\0';
	field = strcasestr(reply, "\r\nContent-Length:");
	*end = '\r';
	body = end + 4;
	body_length = field ? strtoul(field + 17, NULL, 10) : 0;
	return field && body_length <= (size_t)(reply + got - body);
}

static enum outcome converse(int fd)
{
	enum outcome connected = connect_agent(fd);
	size_t got = 0;
	ssize_t more = 1;

	if (connected != ANSWERED)
		return connected;
	/* What cannot be sent is no failure yet: an agent that refuses may answer before it has read everything. */
	if (write_all(fd, head, head_length))
		write_all(fd, config, config_length);
	while (more && got < MAX_REPLY && wait_for(fd, POLLIN)) {
		more = read(fd, reply + got, MAX_REPLY - got);
		if (more < 0 && errno != EAGAIN && errno != EINTR)
			break;
		got += more > 0 ? (size_t)more : 0;
		reply[got] = '\0';
		if (complete(got))
			return ANSWERED;
	}
	if (left_ms())
		return lost(LOST, "the agent closed the connection without a whole answer");
	return lost(LOST, "no answer within %g s", timeout_seconds());
}

static enum outcome exchange(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	enum outcome outcome = fd < 0 ? lost(LOST, "socket: %s", strerror(errno)) : converse(fd);

	if (fd >= 0)
		close(fd);
	/* A refusal that is not a CNI error never came from the agent's CNI side. */
	if (outcome == ANSWERED && http_status != 200 && !memmem(body, body_length, "\"code\"", 6))
		return lost(LOST, "the agent answered HTTP %d", http_status);
	return outcome;
}

static int deliver(void)
{
	return write_all(STDOUT_FILENO, body, body_length) && http_status == 200 ? 0 : 1;
}

/* Keep the request in `path` so that it survives a crash from the moment this returns true. */
static bool store(const char *folder, const char *hidden, const char *path)
{
	int fd = open(hidden, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	bool kept;

	if (fd < 0)
		return false;
	kept = write_all(fd, head, head_length) && write_all(fd, config, config_length) && !fsync(fd);
	kept = !close(fd) && kept && !rename(hidden, path);
	if (!kept)
		unlink(hidden);
	fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	kept = fd >= 0 && !fsync(fd) && kept;
	if (fd >= 0)
		close(fd);
	return kept;
}

static bool plain(const char *name, size_t longest)
{
	return name && *name && *name != '.' && strlen(name) <= longest && !strpbrk(name, "/ :");
}

/* A DEL that the agent did not take: remember it, so that the runtime can go on. The exit status. */
static int remember(enum outcome outcome)
{
	const char *container = getenv("CNI_CONTAINERID"), *interface = getenv("CNI_IFNAME");
	const char *state = directory("FAIRLEAD_STATE_DIR", "/var/lib/fairlead");
	char folder[4096], hidden[4608], path[4608];

	if (!plain(container, 255) || !plain(interface, 15))
		return fail(BAD_ENVIRONMENT, "", "CNI_CONTAINERID and CNI_IFNAME must be set and valid");
	if (snprintf(folder, sizeof(folder), "%s/pending-del", state) >= (int)sizeof(folder))
		return fail(BAD_ENVIRONMENT, "", "FAIRLEAD_STATE_DIR is too long");
	snprintf(path, sizeof(path), "%s/%.200s.%s.%d", folder, container, interface, (int)getpid());
	snprintf(hidden, sizeof(hidden), "%s/.%.200s.%s.%d", folder, container, interface, (int)getpid());
	mkdir(state, 0755);
	mkdir(folder, 0700);
	if (!store(folder, hidden, path))
		return fail(IO_FAILURE, "once there is room for it, or the agent runs, repeat the DEL",
			    "the DEL cannot be remembered: %s: %s; the agent: %s", folder, strerror(errno), reason);
	/* An agent that began to listen meanwhile may have read the folder before the file was there: ask once more. */
	if (outcome == NOT_RUNNING && exchange() == ANSWERED && http_status == 200) {
		unlink(path);
		return deliver();
	}
	return 0;
}

/* What the last agent left to be done when it is not there (agent/remedy.py): it knew who runs it. */
static const char *remedy(void)
{
	static char said[201], path[4608];
	int fd = -1;
	ssize_t got = 0;

	if (snprintf(path, sizeof(path), "%s/remedy", directory("FAIRLEAD_STATE_DIR", "/var/lib/fairlead")) < (int)sizeof(path))
		fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd >= 0) {
		got = read(fd, said, sizeof(said) - 1);
		close(fd);
	}
	said[got > 0 ? got : 0] = '\0';
	said[strcspn(said, "\n")] = '\0';
	make_plain(said);
	return *said ? said : "start it with `fairlead up`";
}

static int unanswered(const char *command, enum outcome outcome)
{
	enum code code = strcmp(command, "STATUS") ? TRY_LATER : NOT_AVAILABLE;

	if (!strcmp(command, "DEL"))
		return remember(outcome);
	if (outcome == NOT_RUNNING)
		return fail(code, remedy(), "the Fairlead agent is not running: %s", reason);
	return fail(code, "see `fairlead status`", "the Fairlead agent did not answer: %s", reason);
}

/* Have the interface of the namespace at `path` up, or only look whether it is. The exit status. */
static int raise_loopback(const char *path, const char *name, bool look)
{
	int space = open(path, O_RDONLY | O_CLOEXEC), fd = -1, status = 0;
	struct ifreq link = { 0 };

	strcpy(link.ifr_name, name);
	if (space < 0 || setns(space, CLONE_NEWNET))
		return fail(BAD_ENVIRONMENT, "", "CNI_NETNS: %s is no network namespace: %s", path, strerror(errno));
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || ioctl(fd, SIOCGIFFLAGS, &link))
		return fail(REFUSED_BY_KERNEL, "", "%s: %s", name, strerror(errno));
	if (look && !(link.ifr_flags & IFF_UP))
		status = fail(DIFFERENT, "", "%s is down", name);
	link.ifr_flags |= IFF_UP;
	if (!look && ioctl(fd, SIOCSIFFLAGS, &link))
		status = fail(REFUSED_BY_KERNEL, "", "%s cannot be set up: %s", name, strerror(errno));
	close(fd);
	close(space);
	return status;
}

static int loopback(const char *command)
{
	static const char answer[] =
		"{\"cniVersion\":\"%s\",\"interfaces\":[{\"name\":\"%s\",\"mac\":\"00:00:00:00:00:00\",\"sandbox\":\"%s\"}]}\n";
	const char *path = getenv("CNI_NETNS"), *name = getenv("CNI_IFNAME");
	bool look = !strcmp(command, "CHECK");
	int status;

	if (!strcmp(command, "DEL") || !strcmp(command, "GC") || !strcmp(command, "STATUS"))
		return 0;	/* lo goes with its namespace */
	if (!look && strcmp(command, "ADD"))
		return fail(BAD_ENVIRONMENT, "", "CNI_COMMAND: %.80s is not a command", command);
	if (!path || *path != '/' || strpbrk(path, "\"\\\n") || !plain(name, IFNAMSIZ - 1) || strpbrk(name, "\"\\\n"))
		return fail(BAD_ENVIRONMENT, "", "CNI_NETNS and CNI_IFNAME must be set and valid");
	if (!look && memmem(config, config_length, "\"prevResult\"", 12))
		return fail(BAD_CONFIG, "make it a configuration of its own", "prevResult: loopback stands behind no other plugin");
	status = raise_loopback(path, name, look);
	if (!status && !look)
		status = dprintf(STDOUT_FILENO, answer, version, name, path) < 0;
	return status;
}

int main(int argc, char **argv)
{
	const char *command = getenv("CNI_COMMAND"), *program = argc > 0 ? basename(argv[0]) : "";
	enum outcome outcome;
	int status = 0;

	signal(SIGPIPE, SIG_IGN);
	deadline = now_ms() + (long long)(timeout_seconds() * 1000);
	if (!command || !*command)
		return fail(BAD_ENVIRONMENT, "a container runtime sets it", "CNI_COMMAND is not set");
	if (!isatty(STDIN_FILENO))
		status = read_config();
	if (status)
		return status;
	choose_version();
	if (!strcmp(command, "VERSION"))
		return print_version();
	if (!strcmp(program, "loopback"))
		return loopback(command);
	status = write_head(strcmp(program, "fairlead-ipam") ? "fairlead" : program);
	if (status)
		return status;
	outcome = exchange();
	return outcome == ANSWERED ? deliver() : unanswered(command, outcome);
}
