// SPDX-License-Identifier: Apache-2.0
/*
 * drive: plays the container runtime for the benchmarks of CNI plugins.
 *
 * It runs chains of plugins as libcni does: ADD in order, each plugin given the
 * result of the one before as prevResult; DEL in reverse, given the result of
 * the ADD. It times each chain from the first spawn to the last exit. It is C
 * and spawns by vfork, so that eight workers measure the plugins and not the
 * interpreter that would start them.
 *
 * Commands come on stdin, one a line; answers go to stdout:
 *
 *   spaces N                             make N network namespaces /run/netns/c<slot>
 *   plugin CHAIN PATH CONF               append a plugin; CONF is JSON up to the line's end
 *   run COMMAND CHAIN FIRST COUNT WIDTH  one chain for each of COUNT slots, WIDTH at a time
 *
 * A slot is one container: its namespace, its id, and the result of its ADD.
 * The string "@PORT@" in CONF becomes the number of a port
 * of the slot's own. `run` answers one line a slot, "SLOT NANOSECONDS ok" or
 * "SLOT NANOSECONDS PLUGIN ERROR"; every command ends with "done NANOSECONDS"
 * or "error TEXT".
 *
 * It must not decide anything about the measurement: what, how often and in
 * which order is for the Python side to say.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_CHAINS	16
#define MAX_PLUGINS	8
#define MAX_SLOTS	4096
#define MAX_WIDTH	64
#define TEXT		32768	/* a configuration or a result; fits in a pipe, so writing never blocks */
#define LINE		(TEXT + 1024)
#define PORT		"\"@PORT@\""
#define FIRST_PORT	20000
#define DEADLINE_NS	(30 * 1000000000ULL)

extern char **environ;

struct plugin {
	char *path;
	char *conf;
};

struct chain {
	char name[32];
	struct plugin plugins[MAX_PLUGINS];
	int length;
};

struct slot {
	char *result;		/* what the last plugin of ADD answered, or NULL */
	const char *culprit;	/* the plugin that failed in the last run, or NULL */
	char error[512];
	uint64_t ns;
};

struct job {
	const char *command;
	const struct chain *chain;
	int first, count;
	atomic_int next;
};

static struct chain chains[MAX_CHAINS];
static struct slot slots[MAX_SLOTS];
static int spaces;

static uint64_t now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static void answer_error(const char *what)
{
	printf("error %s\n", what);
}

/* ---- one plugin ---- */

/* The configuration as the plugin gets it: the slot's port filled in, prevResult put before the last brace. */
static bool compose(char *out, const char *conf, int slot, const char *before)
{
	const char *mark = strstr(conf, PORT);
	int length;

	if (mark)
		length = snprintf(out, TEXT, "%.*s%d%s", (int)(mark - conf), conf, FIRST_PORT + slot, mark + strlen(PORT));
	else
		length = snprintf(out, TEXT, "%s", conf);
	if (before && length > 0 && length < TEXT) {
		length--;
		length += snprintf(out + length, (size_t)(TEXT - length), ",\"prevResult\":%s}", before);
	}
	return length > 0 && length < TEXT;
}

/* Our environment and the variables of the CNI specification, as kubelet has them filled. */
static void environment(char *vars[], char text[6][128], const char *command, int slot)
{
	int n = 0;

	for (char **at = environ; *at && n < 32; at++)
		vars[n++] = *at;
	snprintf(text[0], 128, "CNI_COMMAND=%s", command);
	snprintf(text[1], 128, "CNI_CONTAINERID=bench-%d", slot);
	snprintf(text[2], 128, "CNI_NETNS=/run/netns/c%d", slot);
	snprintf(text[3], 128, "CNI_IFNAME=eth0");
	snprintf(text[4], 128, "CNI_PATH=/usr/lib/cni");
	snprintf(text[5], 128, "CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;K8S_POD_NAME=burst-%d", slot);
	for (int i = 0; i < 6; i++)
		vars[n++] = text[i];
	vars[n] = NULL;
}

static pid_t spawn(const char *path, const char *command, int slot, int in, int out)
{
	char *vars[40], text[6][128], *argv[] = { (char *)path, NULL };
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;
	sigset_t defaults;
	pid_t pid;

	environment(vars, text, command, slot);
	sigemptyset(&defaults);
	sigaddset(&defaults, SIGPIPE);	/* ignored here, which a plugin would inherit */
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigdefault(&attributes, &defaults);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGDEF);
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, in, 0);
	posix_spawn_file_actions_adddup2(&actions, out, 1);
	if (posix_spawn(&pid, path, &actions, &attributes, argv, vars))
		pid = -1;
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	return pid;
}

/* Read to the end of file; false if it does not fit or the deadline passes. */
static bool slurp(int fd, char *text)
{
	uint64_t deadline = now() + DEADLINE_NS;
	struct pollfd ready = { .fd = fd, .events = POLLIN };
	size_t used = 0;

	while (used < TEXT - 1) {
		uint64_t t = now();
		ssize_t got;

		if (t >= deadline || poll(&ready, 1, (int)((deadline - t) / 1000000) + 1) <= 0)
			return false;
		got = read(fd, text + used, TEXT - 1 - used);
		if (got <= 0) {
			text[used] = '\0';
			return got == 0;
		}
		used += (size_t)got;
	}
	return false;
}

/* Run one plugin; its answer is left in `answer`. A plugin that overruns is killed. */
static bool call(const char *path, const char *command, int slot, const char *input, char *answer)
{
	int in[2], out[2], status = -1;
	bool whole = false;
	pid_t pid;

	if (pipe2(in, O_CLOEXEC))
		return false;
	if (pipe2(out, O_CLOEXEC)) {
		close(in[0]);
		close(in[1]);
		return false;
	}
	pid = spawn(path, command, slot, in[0], out[1]);
	close(in[0]);
	close(out[1]);
	if (pid > 0) {
		if (write(in[1], input, strlen(input)) < 0)
			status = errno;	/* the plugin left early; its exit status tells */
		close(in[1]);
		in[1] = -1;
		whole = slurp(out[0], answer);
		if (!whole)
			kill(pid, SIGKILL);
		waitpid(pid, &status, 0);
	}
	if (in[1] >= 0)
		close(in[1]);
	close(out[0]);
	if (!whole)
		strcpy(answer, pid > 0 ? "no whole answer within the deadline" : "cannot be started");
	return whole && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- one container ---- */

static void blame(struct slot *at, const char *path, const char *answer)
{
	const char *name = strrchr(path, '/');

	at->culprit = name ? name + 1 : path;
	snprintf(at->error, sizeof(at->error), "%s", *answer ? answer : "failed without an answer");
	for (char *c = at->error; *c; c++)
		if (*c == '\n' || *c == '\r')
			*c = ' ';
}

static void keep(struct slot *at, const char *result)
{
	char *old = at->result;

	at->result = result ? strdup(result) : NULL;
	free(old);
}

static void carry_out(const struct job *job, int slot)
{
	bool add = strcmp(job->command, "ADD") == 0;
	char input[TEXT], answer[TEXT];
	struct slot *at = &slots[slot];
	uint64_t start = now();

	at->culprit = NULL;
	if (add)
		keep(at, NULL);
	for (int i = 0; i < job->chain->length && !at->culprit; i++) {
		const struct plugin *p = &job->chain->plugins[add ? i : job->chain->length - 1 - i];

		answer[0] = '\0';
		if (!compose(input, p->conf, slot, at->result))
			blame(at, p->path, "the configuration does not fit");
		else if (!call(p->path, job->command, slot, input, answer))
			blame(at, p->path, answer);
		else if (add)
			keep(at, answer);
	}
	at->ns = now() - start;
	if (!add && !at->culprit)
		keep(at, NULL);
}

static void *work(void *given)
{
	struct job *job = given;
	int i;

	while ((i = atomic_fetch_add(&job->next, 1)) < job->count)
		carry_out(job, job->first + i);
	return NULL;
}

/* ---- commands ---- */

static struct chain *find_chain(const char *name, bool make)
{
	for (int i = 0; i < MAX_CHAINS; i++) {
		if (strcmp(chains[i].name, name) == 0)
			return &chains[i];
		if (!chains[i].name[0]) {
			if (!make)
				return NULL;
			snprintf(chains[i].name, sizeof(chains[i].name), "%s", name);
			return &chains[i];
		}
	}
	return NULL;
}

static void plugin(const char *arguments)
{
	char name[32], path[512];
	struct chain *chain;
	int conf = 0;

	if (sscanf(arguments, "%31s %511s %n", name, path, &conf) != 2 || !arguments[conf])
		return answer_error("plugin CHAIN PATH CONF");
	chain = find_chain(name, true);
	if (!chain || chain->length == MAX_PLUGINS)
		return answer_error("too many chains or plugins");
	chain->plugins[chain->length].path = strdup(path);
	chain->plugins[chain->length].conf = strdup(arguments + conf);
	chain->length++;
	printf("done 0\n");
}

static bool make_space(int slot)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/run/netns/c%d", slot);
	fd = open(path, O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return false;
	close(fd);
	return !unshare(CLONE_NEWNET) && !mount("/proc/self/ns/net", path, NULL, MS_BIND, NULL);
}

static void make_spaces(const char *arguments)
{
	int home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), wanted = atoi(arguments);
	bool well = home >= 0 && wanted > 0 && wanted <= MAX_SLOTS - spaces;
	uint64_t start = now();

	while (well && wanted--)
		well = make_space(spaces++);
	if (home < 0 || setns(home, CLONE_NEWNET))
		exit(1);
	close(home);
	if (well)
		printf("done %llu\n", (unsigned long long)(now() - start));
	else
		answer_error("cannot make that many network namespaces");
}

static void print_slot(int slot)
{
	const struct slot *at = &slots[slot];

	printf("%d %llu ", slot, (unsigned long long)at->ns);
	if (at->culprit)
		printf("%s %s\n", at->culprit, at->error);
	else
		printf("ok\n");
}

static void run(const char *arguments)
{
	char command[16], name[32];
	pthread_t workers[MAX_WIDTH];
	struct job job = { 0 };
	int width, started = 0;
	uint64_t start, end;

	if (sscanf(arguments, "%15s %31s %d %d %d", command, name, &job.first, &job.count, &width) != 5)
		return answer_error("run COMMAND CHAIN FIRST COUNT WIDTH");
	job.chain = find_chain(name, false);
	job.command = command;
	if (!job.chain || job.first < 0 || job.count < 1 || job.first + job.count > spaces || width < 1 || width > MAX_WIDTH)
		return answer_error("no such chain, slot or width");
	start = now();
	while (started < width - 1 && !pthread_create(&workers[started], NULL, work, &job))
		started++;
	work(&job);
	for (int i = 0; i < started; i++)
		pthread_join(workers[i], NULL);
	end = now();
	for (int i = 0; i < job.count; i++)
		print_slot(job.first + i);
	printf("done %llu\n", (unsigned long long)(end - start));
}

int main(void)
{
	static char line[LINE];

	signal(SIGPIPE, SIG_IGN);
	while (fgets(line, sizeof(line), stdin)) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "spaces ", 7) == 0)
			make_spaces(line + 7);
		else if (strncmp(line, "plugin ", 7) == 0)
			plugin(line + 7);
		else if (strncmp(line, "run ", 4) == 0)
			run(line + 4);
		else
			answer_error("no such command");
		fflush(stdout);
	}
	return 0;
}
