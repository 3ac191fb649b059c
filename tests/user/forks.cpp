// A fork bomb with a bound: every process forks until the depth is reached or fork fails, and waits for all of its
// children. Exits with 0 if every child did.
//     forks DEPTH [WIDTH]
#include "tests/user/user.hpp"

namespace {

volatile u32 mine = 0; // private to each process

void explode(u32 depth, u32 width) {
    if (depth == 0) return;
    mine = depth;
    u32 born = 0;
    for (u32 i = 0; i < width; ++i) {
        const int pid = sys::fork();
        if (pid == 0) {
            mine = depth - 1;
            explode(depth - 1, width);
            CHECK(mine == depth - 1);
            sys::exit(failures != 0);
        }
        if (pid == -kEagain || pid == -kEnomem) break; // allowed answers
        CHECK(pid > 0);
        born += pid > 0;
    }
    for (u32 i = 0; i < born; ++i) {
        int status = -1;
        CHECK(sys::waitpid(-1, &status) > 0);
        CHECK_EQ(status, 0);
    }
    CHECK_EQ(sys::waitpid(-1, nullptr), -kEchild);
    CHECK_EQ(mine, depth);
}

} // namespace

int main(int argc, char** argv) {
    explode(argc > 1 ? number_of(argv[1]) : 3, argc > 2 ? number_of(argv[2]) : 3);
    return 0;
}
