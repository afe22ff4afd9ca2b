/* file-effects FOLDER WHEN NUMBER LOG PROGRAM WORDS...
 *
 * Runs a program and follows the system calls of all its threads, not of programs that it starts. Whatever
 * changes the names below FOLDER, or the length of a file there, is an effect. WHEN and NUMBER say where the
 * program is killed: `before 3` when the next call would be the third effect, `after 3` when the third one is
 * done. `count 0` lets it run. With `write-count 0`, `write-kill 3` and `write-int 3` only what writes bytes to a
 * file below FOLDER is an effect, and `write-int` sends SIGINT and lets the program continue. LOG gets a line for
 * every effect. Exit code 99: killed; 98: processes cannot
 * be followed here; otherwise the program's own. System calls and not functions of the C library are counted:
 * Rust programs make some of them without it. For x86-64 Linux since 5.3. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

enum { CANNOT = 98, KILLED = 99, THREADS = 1024, NO_FILE = -1 };

/* What PTRACE_GET_SYSCALL_INFO tells; the names that headers give it differ. */
enum { ENTRY = 1, EXIT = 2 };
struct syscall_info {
    uint8_t op;
    uint32_t arch;
    uint64_t instruction, stack;
    union {
        struct { uint64_t number, words[6]; } entry;
        struct { int64_t value; uint8_t is_error; } exit;
    };
};

/* Where a call has its path, and the folder that a relative one begins at; NO_FILE: none. */
struct call { long number; int folder, path; const char *name; };
static const struct call calls[] = {
    {SYS_mkdir, NO_FILE, 0, "mkdir"},       {SYS_mkdirat, 0, 1, "mkdir"},
    {SYS_rmdir, NO_FILE, 0, "rmdir"},       {SYS_unlink, NO_FILE, 0, "unlink"},
    {SYS_unlinkat, 0, 1, "unlink"},         {SYS_rename, NO_FILE, 1, "rename"},
    {SYS_renameat, 2, 3, "rename"},         {SYS_renameat2, 2, 3, "rename"},
    {SYS_link, NO_FILE, 1, "link"},         {SYS_linkat, 2, 3, "link"},
    {SYS_symlink, NO_FILE, 1, "symlink"},   {SYS_symlinkat, 1, 2, "symlink"},
    {SYS_mknod, NO_FILE, 0, "mknod"},       {SYS_mknodat, 0, 1, "mknod"},
    {SYS_truncate, NO_FILE, 0, "truncate"}, {SYS_ftruncate, 0, NO_FILE, "truncate"},
    {SYS_creat, NO_FILE, 0, "create"},      {SYS_open, NO_FILE, 0, "create"},
    {SYS_openat, 0, 1, "create"},
};
static const struct call writes[] = {
    {SYS_write, 0, NO_FILE, "write"},       {SYS_pwrite64, 0, NO_FILE, "write"},
    {SYS_writev, 0, NO_FILE, "write"},      {SYS_pwritev, 0, NO_FILE, "write"},
    {SYS_pwritev2, 0, NO_FILE, "write"},    {SYS_sendfile, 0, NO_FILE, "write"},
    {SYS_copy_file_range, 2, NO_FILE, "write"},
};
/* The calls that are followed. */
static const struct call *followed = calls;
static size_t rows = sizeof calls / sizeof *calls;

/* An effect that a thread is about to have; `name` is null when its call is none. */
static struct { pid_t thread; const char *name; char path[2 * PATH_MAX]; } pending[THREADS];

static int slot_of(pid_t thread) {
    for (int slot = 0; slot < THREADS; slot++) {
        if (pending[slot].thread == thread || pending[slot].thread == 0) {
            pending[slot].thread = thread;
            return slot;
        }
    }
    abort();
}

/* The name of the file that a descriptor (AT_FDCWD: the working directory) stands for. */
static void name_of(pid_t thread, int file, char *name) {
    char link[64];
    if (file == AT_FDCWD) snprintf(link, sizeof link, "/proc/%d/cwd", thread);
    else snprintf(link, sizeof link, "/proc/%d/fd/%d", thread, file);
    ssize_t length = readlink(link, name, PATH_MAX - 1);
    name[length < 0 ? 0 : length] = 0;
}

static void text_at(pid_t thread, unsigned long address, char *text) {
    for (size_t length = 0; length + sizeof(long) < PATH_MAX; length += sizeof(long)) {
        long word = ptrace(PTRACE_PEEKDATA, thread, address + length, 0);
        memcpy(text + length, &word, sizeof word);
        text[length + sizeof word] = 0;
        if (memchr(&word, 0, sizeof word)) return;
    }
}

/* Takes note of a call that may have an effect below the folder. */
static int is_effect(pid_t thread, const struct syscall_info *info, const char *folder) {
    const uint64_t *words = info->entry.words;
    int slot = slot_of(thread);
    pending[slot].name = NULL;
    for (size_t row = 0; row < rows; row++) {
        const struct call *call = &followed[row];
        if ((uint64_t)call->number != info->entry.number) continue;
        char *path = pending[slot].path, relative[PATH_MAX] = "";
        path[0] = 0;
        if (call->path != NO_FILE) text_at(thread, words[call->path], relative);
        if (relative[0] != '/') {
            name_of(thread, call->folder == NO_FILE ? AT_FDCWD : (int)words[call->folder], path);
            if (relative[0]) strcat(path, "/");
        }
        strcat(path, relative);
        if (strncmp(path, folder, strlen(folder)) != 0 || path[strlen(folder)] != '/') return 0;
        if (call->number == SYS_open || call->number == SYS_openat) {
            uint64_t flags = words[call->path + 1];
            struct stat found;
            int is_new = (flags & O_CREAT) && lstat(path, &found) != 0;
            if (!is_new && !(flags & O_TRUNC) && (flags & O_TMPFILE) != O_TMPFILE) return 0;
        }
        pending[slot].name = call->name;
        return 1;
    }
    return 0;
}

static int killed(pid_t child, int log) {
    kill(child, SIGKILL);
    while (waitpid(-1, NULL, __WALL) > 0 || errno == EINTR) {}
    close(log);
    return KILLED;
}

static int follow(pid_t child, const char *folder, const char *when, long number, int log) {
    int before = strcmp(when, "before") == 0, interrupts = strcmp(when, "write-int") == 0;
    long done = 0;
    for (;;) {
        int status, sent = 0;
        pid_t thread = waitpid(-1, &status, __WALL);
        if (thread < 0) return CANNOT;
        if (!WIFSTOPPED(status)) {
            if (thread != child) continue;
            return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
        }
        struct syscall_info info;
        if (WSTOPSIG(status) != (SIGTRAP | 0x80)) {
            sent = status >> 16 ? 0 : WSTOPSIG(status);
        } else if (ptrace(PTRACE_GET_SYSCALL_INFO, thread, sizeof info, &info) <= 0) {
            /* The thread is gone. */
        } else if (info.op == ENTRY) {
            if (is_effect(thread, &info, folder) && before && done + 1 == number) {
                ptrace(PTRACE_POKEUSER, thread, offsetof(struct user, regs.orig_rax), -1);
                return killed(child, log);
            }
        } else if (info.op == EXIT) {
            int slot = slot_of(thread);
            if (pending[slot].name && !info.exit.is_error) {
                dprintf(log, "%s %s\n", pending[slot].name, pending[slot].path + strlen(folder) + 1);
                if (++done == number && interrupts) kill(child, SIGINT);
                else if (done == number && !before) return killed(child, log);
            }
            pending[slot].name = NULL;
        }
        ptrace(PTRACE_SYSCALL, thread, 0, sent);
    }
}

int main(int count, char **words) {
    int begin[2];
    if (count < 6 || pipe2(begin, O_CLOEXEC) != 0) return CANNOT;
    int log = open(words[4], O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    pid_t child = fork();
    if (child == 0) {
        char byte;
        if (read(begin[0], &byte, 1) == 1) execvp(words[5], words + 5);
        _exit(CANNOT);
    }
    long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (log < 0 || child < 0 || ptrace(PTRACE_SEIZE, child, 0, options) != 0) return CANNOT;
    if (ptrace(PTRACE_INTERRUPT, child, 0, 0) != 0 || write(begin[1], "", 1) != 1) return CANNOT;
    if (strncmp(words[2], "write", 5) == 0) {
        followed = writes;
        rows = sizeof writes / sizeof *writes;
    }
    return follow(child, words[1], words[2], atol(words[3]), log);
}
