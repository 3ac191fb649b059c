# The text of `make help`.

define HELP
make                build the default kernel: $(BUILD)/loft.elf
make run            install what is missing, build, boot in QEMU; leave with Ctrl-A X
make test           install what is missing, build, run all but the long tests; the last line is `N passed, N failed`
make check          run before a commit: layers, format, mm on the host, one boot; two minutes
make test-host      only mm on the simulated machine
make test-guest     only the kernels booted in QEMU
make test-cpus      a boot on each processor that QEMU knows
make test-nmi       all self-tests under NMIs from outside, on 4 CPUs (NMIS=100000: that many counted by each)
make test-load      mixed load on files, memory and swap on 4 CPUs (MINUTES=30: for so long)
make test-large     a file larger than lowmem through the page cache, with 8 and 16 GiB
make test-alone     each self-test in a separate boot, with all programs, eight, one and none
make test-matrix    all 20 kernels, by g++ and by clang, booted and checked
make test-flushes   suppress one flush of mm at a time: a host test has to fail each time
make test-mutants   apply one defect to mm or the kernel at a time: the tests have to detect it (hours; SHARD=2/5: a part)
make bench          the cost of each path of high memory, in instructions: a table, and $(BUILD)/bench.json
make bench-files    operations on files, beside Linux's figures; with DISK_BUS=virtio or ide also ext2, and swap
make bench-linux    the paths on Debian's i386 kernel, side by side; and the start of both with much memory
make linux-answers  record again the answers of Debian's i386 kernel to system calls, for the self-tests
make bench-cost     the cost of high memory: the same work on kernels with and without it; a table and a plot
make bench-listing  list the instructions of a path: BENCH="kmap.hot vmap16"
make bench-update   store the figures of `make bench` and `make bench-files` as those that `make test` expects
make gdb            gdb attached, with symbols and loft's commands; the machine is stopped at kernel_main
make iso            an ISO with GRUB: $(BUILD)/loft.iso
make run-iso        boot the ISO, through the BIOS
make format         clang-format every C++ file
make tidy           clang-tidy on the kernel, with the checks of .clang-tidy; one minute
make setup          only install the missing tools of all goals (scripts/setup --help: of some)
make clean          remove $(BUILD)/

The kernel (selected now: $(NAME)):
    HIGHMEM=off|4g|64g  memory that the kernel uses: 896 MiB, 4 GiB, 64 GiB by PAE       [64g]
    HIGHPTE=0|1         user page tables may live in high memory                         [1, and 0 with HIGHMEM=off]
    SMP=0|N             a uniprocessor or an SMP kernel; make run starts N processors    [1]
    PREEMPT=0|1         a kernel thread can be preempted                                 [1]
    DEBUG=0|1           expensive checks                                                 [0]
    CXX=...             i686-linux-gnu-g++ or clang++, given on make's command line      [i686-linux-gnu-g++]
The machine (run, run-iso, gdb; test uses ACCEL and QEMU):
    MEM=4G  APPEND="selftest=full exit"  ACCEL=tcg|kvm  QEMU=program  ICOUNT=shift  (scripts/run-qemu --help)
    DISK="FILE ..."  DISK_BUS=ide|virtio   disks of raw sectors; a FILE may also be ide:FILE or virtio:FILE  [none, ide]
make bench: BENCH=GLOB,... selects the paths; ICOUNT=off, or another ACCEL, measures time instead of instructions.
Output: BUILD=folder (now $(BUILD)); then the sources may be read-only.   V=1 shows the commands.
endef

help:
	$(info $(HELP))
	@:
