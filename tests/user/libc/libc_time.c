/* The clocks and sleeps of a C library: an ordinary program without code for loft. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int bad = 0;

static void check(int holds, const char *what) {
    if (holds) return;
    printf("%s does not hold: %s\n", what, strerror(errno));
    bad = 1;
}
#define CHECK(condition) check(condition, #condition)

static double seconds_of(clockid_t clock) {
    struct timespec now = {0, 0};
    CHECK(clock_gettime(clock, &now) == 0);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

int main(int argc, char **argv) {
    struct timespec part = {0, 30000000}, until, resolution;
    struct timeval now;
    struct tm *date;
    time_t second;
    double begin = seconds_of(CLOCK_MONOTONIC);

    setvbuf(stdout, 0, _IOLBF, 0);
    CHECK(usleep(30000) == 0);
    CHECK(seconds_of(CLOCK_MONOTONIC) - begin >= 0.03);
    begin = seconds_of(CLOCK_MONOTONIC);
    CHECK(nanosleep(&part, &part) == 0);
    CHECK(clock_nanosleep(CLOCK_REALTIME, 0, &part, 0) == 0);
    CHECK(seconds_of(CLOCK_MONOTONIC) - begin >= 0.06);
    begin = seconds_of(CLOCK_MONOTONIC);
    CHECK(clock_gettime(CLOCK_MONOTONIC, &until) == 0);
    until.tv_nsec += 50000000;
    until.tv_sec += until.tv_nsec / 1000000000;
    until.tv_nsec %= 1000000000;
    CHECK(clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, 0) == 0);
    CHECK(seconds_of(CLOCK_MONOTONIC) >= (double)until.tv_sec + (double)until.tv_nsec * 1e-9);
    (void)argv;
    CHECK(sleep(argc > 1) == 0);
    CHECK(argc == 1 || seconds_of(CLOCK_MONOTONIC) - begin >= 1.0);
    CHECK(clock_nanosleep(77, 0, &part, 0) == EINVAL);

    second = time(0);
    CHECK(second != (time_t)-1);
    CHECK(gettimeofday(&now, 0) == 0);
    CHECK(now.tv_sec - second <= 1 && now.tv_usec < 1000000);
    CHECK(seconds_of(CLOCK_REALTIME) - (double)now.tv_sec < 2);
    CHECK(clock_getres(CLOCK_MONOTONIC, &resolution) == 0);
    CHECK(resolution.tv_sec == 0 && resolution.tv_nsec > 0);
    date = gmtime(&second);
    printf("libc_time: the year is %d or later\n", date->tm_year + 1900 >= 2020 ? 2020 : date->tm_year + 1900);
    return bad;
}
