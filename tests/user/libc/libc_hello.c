/* An ordinary program without code for loft, linked statically with the C library of the cross compiler. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static __thread int own = 42;

int main(int argc, char **argv) {
    double third = 1.0 / 3.0;
    char *memory = malloc(3000000);
    char *small = malloc(100);
    if (memory == NULL || small == NULL) return 2;
    memset(memory, 'x', 3000000);
    strcpy(small, "printf");
    printf("hello from the C library: %s, %d, %.6f, argc %d\n", small, own, third, argc);
    if (write(77, "x", 1) != -1 || errno != EBADF) return 3;
    free(memory);
    free(small);
    return strcmp(argv[0], "libc_hello") != 0;
}
