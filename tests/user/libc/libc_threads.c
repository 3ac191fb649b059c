/* Threads of a C library, and the objects on which they wait: an ordinary program without code for loft. */
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 6, ROUNDS = 50 };

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static pthread_once_t once = PTHREAD_ONCE_INIT;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;
static sem_t semaphore;
static int go, counter, serial, wrong, onces;
static __thread long own;

static void count_once(void) { onces++; }

static void *run(void *number) {
    own = (long)number;
    pthread_once(&once, count_once);
    pthread_mutex_lock(&mutex);
    while (!go)
        pthread_cond_wait(&changed, &mutex);
    counter++;
    pthread_mutex_unlock(&mutex);
    pthread_barrier_wait(&barrier);
    for (int round = 0; round < ROUNDS; round++) {
        pthread_rwlock_rdlock(&rwlock);
        if (counter != THREADS + round) wrong++;
        pthread_rwlock_unlock(&rwlock);
        if (pthread_barrier_wait(&barrier) == PTHREAD_BARRIER_SERIAL_THREAD) {
            pthread_rwlock_wrlock(&rwlock);
            counter++, serial++;
            pthread_rwlock_unlock(&rwlock);
        }
        pthread_barrier_wait(&barrier);
    }
    sem_post(&semaphore);
    if (own != (long)number) wrong++;
    return number;
}

int main(void) {
    pthread_t threads[THREADS];
    struct timespec soon;
    int bad = 0;

    setvbuf(stdout, 0, _IOLBF, 0);
    sem_init(&semaphore, 0, 0);
    pthread_barrier_init(&barrier, 0, THREADS);
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], 0, run, (void *)i) != 0) return 2;
    pthread_mutex_lock(&mutex);
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_nsec += 20000000;
    soon.tv_sec += soon.tv_nsec / 1000000000;
    soon.tv_nsec %= 1000000000;
    bad |= pthread_cond_timedwait(&changed, &mutex, &soon) != ETIMEDOUT;
    pthread_mutex_unlock(&mutex);
    pthread_mutex_lock(&mutex);
    go = 1;
    pthread_cond_broadcast(&changed);
    pthread_mutex_unlock(&mutex);
    for (int i = 0; i < THREADS; i++)
        sem_wait(&semaphore);
    for (long i = 0; i < THREADS; i++) {
        void *result = 0;
        bad |= pthread_join(threads[i], &result) != 0 || result != (void *)i;
    }
    printf("libc_threads: %d rounds, %d once, bad %d\n", serial, onces, bad);
    if (raise(SIGURG) != 0 || raise(0) != 0) bad |= 4;
    if (bad || serial != ROUNDS || onces != 1) return 1;
    abort(); /* by SIGABRT, through raise and the signal mask */
}
