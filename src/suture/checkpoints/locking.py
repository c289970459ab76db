"""One writer for each output: a lock that dies with its process, whatever ends it, and whose loser is told who holds it.

The lock is ``flock`` on a hidden file beside the output. Whoever holds it removes the file at the end; after SIGKILL the file stays, no
lock on it, until somebody writes there again. The file's content is for people: it never decides who holds the lock.
"""

import errno
import json
import os
import socket
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import ModuleType

from suture.errors import OutputBusy, OutputError, SutureWarning

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None

WITHOUT = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL}
"""What file systems that have no locks answer."""
PATIENCE = 0.2
"""Seconds in which a holder has said who it is."""
LONGEST = 1000
"""Bytes of a lock file that are read."""


class _Held(threading.local):
    """The outputs that this thread alone may write, with all that is in them."""

    def __init__(self) -> None:
        self.places: set[Path] = set()


_held = _Held()


class Lock:
    """A descriptor that a lock goes with, to be closed once, and in a forked child at once: there the lock would outlive its holder."""

    def __init__(self, descriptor: int, *, found: bool = False) -> None:
        self.descriptor, self.found = descriptor, found  # found: its file was there, so whoever had it may have been killed
        _locks.add(self)

    def mine(self) -> bool:
        """Tell whether this process holds it: a child of the one that took it does not."""
        return self in _locks

    def close(self) -> None:
        """Give it back; a child, in which it is closed already, closes nothing that has its number now."""
        if self.mine():
            _locks.remove(self)
            os.close(self.descriptor)


_locks = set[Lock]()


def _in_a_child() -> None:
    """Forget what the parent holds: its locks are its own, and closing the child's copies of their descriptors leaves them so."""
    _held.places.clear()
    for lock in tuple(_locks):
        with suppress(OSError):
            lock.close()


if hasattr(os, "register_at_fork"):  # pragma: no branch  # not on Windows
    os.register_at_fork(after_in_child=_in_a_child)


@contextmanager
def sole_writer(out: Path, *, wait: bool = False) -> Iterator[Lock | None]:
    """Keep everybody else from writing ``out`` while the block runs; ``wait`` for whoever does.

    A thread may ask again for what it has, or for what is in it: that takes no lock of its own.

    Yields the lock if this very call took one, so that nobody is writing: on file systems without, a
    :class:`suture.errors.SutureWarning` says so, and on Windows there is none.
    Raises :class:`suture.errors.OutputBusy`, which names the holder, and :class:`OutputError` where no file can be made.
    """
    place = _placed(out)
    if not _held.places.isdisjoint((place, *place.parents)):
        yield None
        return
    lock = place.with_name(f".{place.name}.lock")
    try:
        held = _taken(lock, out, wait=wait)
    except OSError as error:
        raise OutputError(f"cannot write {out}: {error.strerror or error} ({lock})") from error
    _held.places.add(place)
    try:
        yield held
    finally:
        _held.places.discard(place)
        if held is not None:
            _given_back(lock, held)


@contextmanager
def own(place: Path) -> Iterator[None]:
    """Take a place for this thread's own while the block runs, as nobody else knows of it: nothing in it takes a lock."""
    key = _placed(place)
    _held.places.add(key)
    try:
        yield
    finally:
        _held.places.discard(key)


def _placed(out: Path) -> Path:
    return Path(os.path.realpath(out.parent), out.name)


def _taken(lock: Path, out: Path, *, wait: bool) -> Lock | None:
    """Return the open lock file, locked; None where there are no locks."""
    if fcntl is None:
        return None
    while True:
        descriptor, found = _opened(lock)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            if _is_at(lock, descriptor):  # whoever had it before has not removed it meanwhile
                found = found or os.fstat(descriptor).st_size > 0  # somebody has had what this one made
                _check_ours(descriptor, lock, out)
                _introduce(descriptor)
                return Lock(descriptor, found=found)
        except BlockingIOError as error:
            message = f"{out} is being written by {_holder(descriptor)}; wait until that has ended, or choose another output"
            os.close(descriptor)
            raise OutputBusy(message) from error
        except OSError as error:
            os.close(descriptor)
            if error.errno not in WITHOUT:
                raise
            with suppress(OSError):
                lock.unlink()
            warnings.warn(f"{out.parent} has no locks: see to it that one process at a time writes there", SutureWarning, stacklevel=4)
            return None
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _opened(lock: Path) -> tuple[int, bool]:
    """Return the lock file, open, and whether it was there."""
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
    try:
        return os.open(lock, flags | os.O_EXCL, 0o666), False
    except FileExistsError:
        return os.open(lock, flags, 0o666), True


def is_given_up(lock: Path) -> bool:
    """Tell whether a file is the lock file of a holder that was killed."""
    if fcntl is None:
        return False
    try:
        descriptor = os.open(lock, os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return _ours(descriptor)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _given_back(lock: Path, held: Lock) -> None:
    """Remove the file while it is locked, so that nobody takes a lock on a file that is about to go."""
    with suppress(OSError):
        if held.mine() and _is_at(lock, held.descriptor):
            lock.unlink()
    held.close()


def _is_at(lock: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(lock.lstat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _introduce(descriptor: int) -> None:
    """Write down who holds the lock."""
    who = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())}
    with suppress(OSError):  # a full disk is no reason not to hold it
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps(who).encode(), 0)


def _holder(descriptor: int) -> str:
    """Return who holds a lock, as it has said, or will in a moment."""
    deadline = time.monotonic() + PATIENCE
    while (who := _told(descriptor)) is None:
        if time.monotonic() > deadline:
            return "another process"
        time.sleep(0.01)
    return who


def _told(descriptor: int) -> str | None:
    """Return who holds a lock, as its file says; None where it says nothing, or what we do not write."""
    try:
        who = json.loads(os.pread(descriptor, LONGEST, 0))
        return f"process {int(who['pid'])} on {str(who['host'])!r}, since {' '.join(str(who['since']).split())}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _check_ours(descriptor: int, lock: Path, out: Path) -> None:
    """Raise :class:`OutputError` for somebody's file, which nothing is written into."""
    if not _ours(descriptor):
        raise OutputError(f"cannot write {out}: {lock} stands where its lock file goes, and is none of Suture's; move it away")


def _ours(descriptor: int) -> bool:
    """Tell whether a file that is locked is a lock file of ours: its holder has said so, or has not come to it."""
    return os.fstat(descriptor).st_size == 0 or _told(descriptor) is not None
