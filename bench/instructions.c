/* How many instructions has the emulated machine executed? A QEMU (TCG) plugin that keeps the count in a file of 8 bytes,
 * which others read while the machine runs.
 *
 * usage: qemu-system-x86_64 -plugin file=instructions.so,counter=FILE
 * Declarations from QEMU's include/qemu/qemu-plugin.h, which Debian does not package: API=1 before QEMU 9, API=2 from
 * then on, where an inline addition wants one counter per processor and a call does it instead. A block is counted when
 * it is entered, also if an exception ends it early. */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
typedef uint64_t plugin_id;
struct qemu_plugin_tb;
void qemu_plugin_register_vcpu_tb_trans_cb(plugin_id, void (*)(plugin_id, struct qemu_plugin_tb *));
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *);
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb *, int, void *, uint64_t);
void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *, void (*)(unsigned, void *), int, void *);

EXPORT int qemu_plugin_version = API;
static uint64_t *counter;

#if API > 1
static void entered(unsigned processor, void *instructions) {
    (void)processor;
    *counter += (uint64_t)(uintptr_t)instructions; /* the laboratory's machines have one processor */
}
#endif

static void translated(plugin_id id, struct qemu_plugin_tb *block) {
    (void)id;
    size_t instructions = qemu_plugin_tb_n_insns(block);
#if API > 1
    qemu_plugin_register_vcpu_tb_exec_cb(block, entered, 0, (void *)(uintptr_t)instructions);
#else
    qemu_plugin_register_vcpu_tb_exec_inline(block, 0 /* ADD_U64 */, counter, instructions);
#endif
}

EXPORT int qemu_plugin_install(plugin_id id, const void *info, int argc, char **argv) {
    (void)info;
    const char *name = argc == 1 && !strncmp(argv[0], "counter=", 8) ? argv[0] + 8 : NULL;
    int file = name ? open(name, O_RDWR | O_CREAT | O_TRUNC, 0644) : -1;
    if (file < 0 || ftruncate(file, sizeof *counter)) {
        fprintf(stderr, "instructions: counter=FILE is needed, and must be writable\n");
        return 1;
    }
    counter = mmap(NULL, sizeof *counter, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (counter == MAP_FAILED) return 1;
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    return 0;
}
