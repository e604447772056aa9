"""The inner wall: what a program's own process takes from itself before it starts.

A seccomp filter and resource limits, set in the child just before the program
runs, whichever backend draws the outer wall. The program cannot start or signal
another process, open a socket, execute a file, or raise its limits again.

This module runs inside the sandbox and imports only the standard library.
Syscall numbers: Linux `arch/x86/entry/syscalls/syscall_64.tbl` and
`include/uapi/asm-generic/unistd.h`.
"""

import ctypes
import errno
import os
import platform
import resource
import struct
import sys

_X86_64 = {
    "socket": 41, "connect": 42, "accept": 43, "bind": 49, "listen": 50, "fork": 57, "vfork": 58,
    "execve": 59, "kill": 62, "clone": 56, "shmget": 29, "shmat": 30, "semget": 64, "msgget": 68,
    "ptrace": 101, "setpgid": 109, "setsid": 112, "rt_sigqueueinfo": 129, "personality": 135,
    "pivot_root": 155, "prctl": 157, "setrlimit": 160, "chroot": 161, "mount": 165, "umount2": 166,
    "tkill": 200, "tgkill": 234, "mq_open": 240, "add_key": 248, "request_key": 249, "keyctl": 250,
    "unshare": 272, "rt_tgsigqueueinfo": 297, "perf_event_open": 298, "prlimit64": 302,
    "name_to_handle_at": 303, "open_by_handle_at": 304, "setns": 308, "process_vm_readv": 310,
    "process_vm_writev": 311, "kcmp": 312, "memfd_create": 319, "bpf": 321, "execveat": 322,
    "userfaultfd": 323,
}  # fmt: skip
_AARCH64 = {
    "socket": 198, "connect": 203, "accept": 202, "bind": 200, "listen": 201, "clone": 220, "execve": 221,
    "kill": 129, "tkill": 130, "tgkill": 131, "rt_sigqueueinfo": 138, "rt_tgsigqueueinfo": 240,
    "shmget": 194, "shmat": 196, "semget": 190, "msgget": 186, "ptrace": 117, "setpgid": 154, "setsid": 157,
    "personality": 92, "pivot_root": 41, "prctl": 167, "setrlimit": 164, "chroot": 51, "mount": 40,
    "umount2": 39, "mq_open": 180, "add_key": 217, "request_key": 218, "keyctl": 219, "unshare": 97,
    "perf_event_open": 241, "prlimit64": 261, "name_to_handle_at": 264, "open_by_handle_at": 265,
    "setns": 268, "process_vm_readv": 270, "process_vm_writev": 271, "kcmp": 272, "memfd_create": 279,
    "bpf": 280, "execveat": 281, "userfaultfd": 282,
}  # fmt: skip
_SHARED = {
    "pidfd_send_signal": 424, "io_uring_setup": 425, "pidfd_open": 434, "clone3": 435, "pidfd_getfd": 438,
    "process_madvise": 440, "memfd_secret": 447,
}  # fmt: skip
_ARCHITECTURES = {"x86_64": (0xC000003E, _X86_64), "aarch64": (0xC00000B7, _AARCH64)}

_LOAD, _JEQ, _JGE, _JSET, _RET = 0x20, 0x15, 0x35, 0x45, 0x06
_ALLOW, _KILL, _ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
_NR, _ARCH, _ARG0, _ARG2 = 0, 4, 16, 32
_CLONE_THREAD = 0x00010000
_PR_SET_PDEATHSIG, _PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS = 1, 22, 38


def _op(code: int, true: int, false: int, k: int) -> bytes:
    return struct.pack("=HBBI", code, true, false, k)


def filter_program(pid: int) -> bytes | None:
    """The seccomp program for the process `pid` on this machine; None where we know no numbers."""
    if sys.platform != "linux" or platform.machine() not in _ARCHITECTURES:
        return None
    arch, numbers = _ARCHITECTURES[platform.machine()]
    numbers = numbers | _SHARED
    deny = _op(_RET, 0, 0, _ERRNO | errno.EPERM)
    allow = _op(_RET, 0, 0, _ALLOW)
    program = [_op(_LOAD, 0, 0, _ARCH), _op(_JEQ, 1, 0, arch), _op(_RET, 0, 0, _KILL), _op(_LOAD, 0, 0, _NR)]
    if platform.machine() == "x86_64":  # the x32 calls share the architecture word
        program += [_op(_JGE, 0, 1, 0x40000000), _op(_RET, 0, 0, _KILL)]
    # glibc asks clone3 first and falls back to clone when it does not exist.
    program += [_op(_JEQ, 0, 1, numbers["clone3"]), _op(_RET, 0, 0, _ERRNO | errno.ENOSYS)]
    # Threads are the program's own affair; processes are not.
    program += [_op(_JEQ, 0, 4, numbers["clone"]), _op(_LOAD, 0, 0, _ARG0)]
    program += [_op(_JSET, 0, 1, _CLONE_THREAD), allow, deny]
    # It may signal itself (abort, raise_signal) and nobody else.
    for name in ("kill", "tgkill"):
        program += [_op(_JEQ, 0, 4, numbers[name]), _op(_LOAD, 0, 0, _ARG0)]
        program += [_op(_JEQ, 0, 1, pid), allow, deny]
    # It dies with its keeper, and cannot call that off.
    program += [_op(_JEQ, 0, 4, numbers["prctl"]), _op(_LOAD, 0, 0, _ARG0)]
    program += [_op(_JEQ, 1, 0, _PR_SET_PDEATHSIG), allow, deny]
    # Reading limits is fine, setting them is not: the new-limit pointer must be null, both halves.
    program += [_op(_JEQ, 0, 6, numbers["prlimit64"]), _op(_LOAD, 0, 0, _ARG2), _op(_JEQ, 0, 3, 0)]
    program += [_op(_LOAD, 0, 0, _ARG2 + 4), _op(_JEQ, 0, 1, 0), allow, deny]
    special = {"clone3", "clone", "kill", "tgkill", "prctl", "prlimit64"}
    for name in sorted(set(numbers) - special):
        program += [_op(_JEQ, 0, 1, numbers[name]), deny]
    return b"".join([*program, allow])


class _Program(ctypes.Structure):
    _fields_ = (("len", ctypes.c_ushort), ("filter", ctypes.c_void_p))


_libc = ctypes.CDLL(None, use_errno=True)


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent dies (Linux; elsewhere nothing)."""
    if sys.platform == "linux":
        _libc.prctl(_PR_SET_PDEATHSIG, 9, 0, 0, 0)


def install_filter() -> bool:
    """Install `filter_program` in this process for ever; False where it cannot be."""
    program = filter_program(os.getpid())
    if program is None:
        return False
    buffer = ctypes.create_string_buffer(program, len(program))
    header = _Program(len(program) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    if _libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return False
    return bool(_libc.prctl(_PR_SET_SECCOMP, 2, ctypes.byref(header), 0, 0) == 0)


def set_limits(cpu_seconds: float, memory_bytes: int, file_bytes: int) -> None:
    """Resource limits of this process. CPU time in whole seconds, rounded up:
    the keeper watches the fraction, the kernel is the backstop."""
    whole = int(cpu_seconds) + 1
    limits = [
        (resource.RLIMIT_CPU, whole),
        (resource.RLIMIT_FSIZE, file_bytes),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NOFILE, 64),
    ]
    if sys.platform == "linux":  # macOS accepts an address-space limit and ignores it
        limits.append((resource.RLIMIT_AS, memory_bytes))
    for which, value in limits:
        hard = resource.getrlimit(which)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(which, (value, value))
