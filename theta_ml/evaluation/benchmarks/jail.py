"""Run as `python -I -S jail.py SECONDS < program`: the program, shut in; imports nothing but the standard library.

Exit codes: 0 it ended well, 1 it did not (or not in time), 70 it could not be shut in and was not run.

This process leaves its namespaces of mounts, network, processes, IPC and host name (see namespaces(7)), and users where
it is not root. Its child becomes the first process of the new ones, takes an empty memory disk for its root, with the
standard library and the system's libraries in it read-only, gives up every privilege, and runs the program. There is no
/etc, /proc, /home or program in that root, no network interface that is up, and no room for another process. This
process kills it at the deadline, and the kernel with it whatever it started; it dies where this process dies.
"""

import ctypes
import os
import platform
import resource
import secrets
import select
import signal
import struct
import sys
import time
from pathlib import Path

NOBODY = 65534
MEMORY_BYTES, FILE_BYTES, OPEN_FILES, DISK = 1 << 30, 1 << 20, 64, b"size=8m,nr_inodes=4k,mode=755"
LIBRARIES = ("/lib", "/lib64", "/usr/lib", "/usr/lib64", str(Path(os.__file__).parent.parent))
"""The last holds Python's standard library."""

_NEWNS, _NEWUTS, _NEWIPC, _NEWUSER, _NEWPID, _NEWNET = 0x20000, 0x4000000, 0x8000000, 0x10000000, 0x20000000, 0x40000000
_RDONLY, _NOSUID, _NODEV, _NOEXEC, _REMOUNT, _BIND, _REC, _PRIVATE = 1, 2, 4, 8, 32, 4096, 16384, 1 << 18
_RELATIME = 1 << 21
_DETACH = 2
_SET_PDEATHSIG, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 1, 24, 38
_CAPABILITY_VERSION_3 = 0x20080522
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}
"""Number of the system call, which the C library does not wrap."""

_libc = ctypes.CDLL(None, use_errno=True)


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _prctl(option: int, value: int) -> None:
    zero = ctypes.c_ulong(0)
    _call("prctl", option, ctypes.c_ulong(value), zero, zero, zero)


def _mount(source: str, target: str, kind: str | None, flags: int, data: bytes | None = None) -> None:
    _call("mount", source.encode(), target.encode(), kind and kind.encode(), ctypes.c_ulong(flags), data)


def leave() -> None:
    """Into new namespaces; the process namespace is that of the next child."""
    user, group = os.geteuid(), os.getegid()
    flags = _NEWNS | _NEWUTS | _NEWIPC | _NEWPID | _NEWNET
    _call("unshare", flags if user == 0 else flags | _NEWUSER)
    if user:
        for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
            Path(f"/proc/self/{name}").write_text(text)
    _mount("none", "/", None, _REC | _PRIVATE)


def enter(root: str) -> None:
    """Makes the empty folder `root` the root of the file system, and a folder of its own the working directory."""
    plain = _NOSUID | _NODEV | _NOEXEC
    _mount("tmpfs", root, "tmpfs", plain, DISK)
    jail = f"{root}/jail"
    os.umask(0o022)
    for path in LIBRARIES:
        _lend(Path(path), Path(jail + path))
    Path(f"{jail}/cell").mkdir()
    _mount("tmpfs", f"{jail}/cell", "tmpfs", plain, DISK)
    os.chown(f"{jail}/cell", *_who())
    _mount("none", root, None, _REMOUNT | _RDONLY | plain)
    os.chdir(root)
    if _libc.syscall(_PIVOT_ROOT[platform.machine()], b".", b".") != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"pivot_root: {os.strerror(number)}")
    _call("umount2", b".", _DETACH)  # of the two that now lie at ".", the old root
    os.chroot("/jail")  # who is in a chroot can make no namespace of users, and so get no privilege there
    os.chdir("/cell")


def _lend(path: Path, place: Path) -> None:
    """What lies at `path`, read-only at `place`."""
    if os.path.lexists(place) or not path.is_dir():
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if path.is_symlink():
        place.symlink_to(path.readlink())
        return
    place.mkdir()
    _mount(str(path), str(place), None, _BIND | _REC)
    had = os.statvfs(path).f_flag  # in a namespace of users, flags may be added and none taken away
    kept = had & (_NOEXEC | os.ST_NOATIME | os.ST_NODIRATIME) | (_RELATIME if had & os.ST_RELATIME else 0)
    _mount("none", str(place), None, _BIND | _REMOUNT | _RDONLY | _NOSUID | _NODEV | kept)


def _who() -> tuple[int, int]:
    return (os.getuid(), os.getgid()) if os.geteuid() else (NOBODY, NOBODY)


def give_up(seconds: int) -> None:
    """Privileges, and more than a little of anything."""
    limits = {
        resource.RLIMIT_CPU: seconds,
        resource.RLIMIT_AS: MEMORY_BYTES,
        resource.RLIMIT_FSIZE: FILE_BYTES,
        resource.RLIMIT_NOFILE: OPEN_FILES,
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_MEMLOCK: 0,
        resource.RLIMIT_MSGQUEUE: 0,
        resource.RLIMIT_NPROC: 0,
    }
    user, group = _who()
    _drop_bounding_set()
    if os.geteuid() == 0:
        os.setgroups([])
        os.setresgid(group, group, group)
        os.setresuid(user, user, user)
    _call("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), bytes(24))
    _prctl(_SET_NO_NEW_PRIVS, 1)
    for limit, value in limits.items():
        resource.setrlimit(limit, (value, value))
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)  # last: a change of user forgets it


def _drop_bounding_set() -> None:
    number = 0
    while True:
        try:
            _prctl(_CAPBSET_DROP, number)
        except OSError:
            return  # the kernel knows no more of them
        number += 1


def shut_in(program: bytes, root: str, seconds: int, orders: int, reports: int) -> None:
    """The child: never returns."""
    code = 70
    try:
        for descriptor in (0, 1, 2):
            os.dup2(os.open(os.devnull, os.O_RDWR), descriptor)
        os.closerange(max(orders, reports) + 1, 1 << 16)
        enter(root)
        give_up(seconds)
        os.write(reports, b"ready")
        token = os.read(orders, 32)  # nothing where our parent has died before it would have taken us along
        os.close(orders)
        if token:
            code = 1
            exec(compile(program, "program", "exec"), {"__name__": "__main__"})  # noqa: S102  this is what it is for
            os.write(reports, token)  # who leaves early, by os._exit for one, has not passed
            code = 0
    except OSError as error:
        if code == 70:
            os.write(reports, f"refused {error}".encode())
    except BaseException:  # noqa: BLE001, S110  whatever a program raises, it has failed
        pass
    finally:
        os._exit(code)


def main(root: str, seconds: int) -> int:
    _prctl(_SET_PDEATHSIG, signal.SIGKILL)
    program = sys.stdin.buffer.read()
    try:
        leave()
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 70
    (orders, order), (report, reports) = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        os.close(order)
        os.close(report)
        shut_in(program, root, seconds, orders, reports)
    os.close(orders)
    os.close(reports)
    try:
        return _watch(report, order, time.monotonic() + seconds)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def _watch(report: int, order: int, deadline: float) -> int:
    first = _heard(report, deadline)
    if first != b"ready":
        sys.stderr.write(first.decode(errors="replace").removeprefix("refused ") or "the child died\n")
        return 70
    token = secrets.token_bytes(32)
    os.write(order, token)
    return 0 if _heard(report, deadline) == token else 1


def _heard(report: int, deadline: float) -> bytes:
    ready, _, _ = select.select([report], [], [], max(deadline - time.monotonic(), 0))
    return os.read(report, 1024) if ready else b""


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2])))
