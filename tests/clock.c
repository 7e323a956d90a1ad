/* A clock that only one process sees being set: loaded with LD_PRELOAD, CLOCK_REALTIME is wrong by as many seconds as
 * stand in the file that $CLOCK_STEP names. The machine's clock is everybody's.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t which, struct timespec *now)
{
	int error = syscall(SYS_clock_gettime, which, now);
	const char *path = getenv("CLOCK_STEP");
	FILE *file = !error && which == CLOCK_REALTIME && path ? fopen(path, "r") : NULL;
	long seconds;

	if (file) {
		if (fscanf(file, "%ld", &seconds) == 1)
			now->tv_sec += seconds;
		fclose(file);
	}
	return error;
}
