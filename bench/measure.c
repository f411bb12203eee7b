/* What did one command cost? Appends a line to a file:
 *
 *   exit-code wall-us user-us system-us KiB
 *
 * usage: measure FILE COMMAND [WORDS...]
 * CPU is the command's and that of its descendants that were waited for; the kernel's sum of the two is exact to
 * microseconds, only their ratio is sampled. vfork: the copy of a page table is not part of what is measured.
 * KiB: the most that was resident, this program's own before the exec included. */
#define _GNU_SOURCE
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now_us(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000LL + t.tv_nsec / 1000;
}

static long long us(struct timeval t) { return t.tv_sec * 1000000LL + t.tv_usec; }

int main(int argc, char **argv) {
    if (argc < 3) return 2;
    long long begin = now_us();
    pid_t pid = vfork();
    if (pid == 0) {
        execvp(argv[2], argv + 2);
        _exit(127);
    }
    int status = 0;
    struct rusage used;
    if (pid < 0 || wait4(pid, &status, 0, &used) != pid) return 1;
    long long end = now_us();
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    FILE *file = fopen(argv[1], "a");
    if (!file) return 1;
    fprintf(file, "%d %lld %lld %lld %ld\n", code, end - begin, us(used.ru_utime), us(used.ru_stime), used.ru_maxrss);
    return fclose(file) ? 1 : code;
}
