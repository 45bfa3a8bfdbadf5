// What each of its functions allocates is known: `allocations ROUNDS THREADS` does so many rounds on each of
// so many threads, once it is told to on standard input, says `done` and stays until that ends.
//
// A round: 1,000 bytes by `kept`, which stay; 400 by `passing` (calloc), 16 and then 4,000 by `grown`
// (realloc) and 2,048 by `aligned` (posix_memalign), which are freed at once.

#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SITE __attribute__((noinline, noclone))

static long rounds;
static void *volatile hold;

SITE static void *kept(void) {
    void *p = malloc(1000);
    hold = p;
    return p;
}

SITE static void passing(void) {
    void *p = calloc(4, 100);
    hold = p;
    free(p);
}

SITE static void grown(void) {
    void *p = realloc(NULL, 16);
    hold = p;
    p = realloc(p, 4000);
    hold = p;
    free(p);
}

SITE static void aligned(void) {
    void *p = NULL;
    if (posix_memalign(&p, 256, 2048) == 0) {
        hold = p;
        free(p);
    }
}

static void *work(void *arg) {
    void **all = malloc(rounds * sizeof *all);
    for (long round = 0; round < rounds; round++) {
        all[round] = kept();
        passing();
        grown();
        aligned();
    }
    hold = all;
    return arg;
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    rounds = atol(argv[1]);
    int count = atoi(argv[2]);
    char line[8];
    // Begins when it is told to.
    if (read(0, line, sizeof line) <= 0)
        return 1;
    pthread_t threads[64];
    for (int i = 0; i < count && i < 64; i++)
        pthread_create(&threads[i], NULL, work, NULL);
    for (int i = 0; i < count && i < 64; i++)
        pthread_join(threads[i], NULL);
    write(1, "done\n", 5);
    // Stays, so that its memory does.
    while (read(0, line, sizeof line) > 0)
        ;
    return 0;
}
