"""Performs a session: threads and one queue on one side, the pure `session.step` on the other.

    watcher thread ─┐                      ┌─────────────────────> hosts
    finder threads ─┤                      │            requests     │ answers
    build thread ───┼─> queue ─> run() ────┼─> swapper thread <──────┘
    host output ────┤     step(state, e)   └─> reporter (draws on a thread of its own)
    keys ───────────┘

`run` alone owns the state. Answers are waited for on the swapper's thread, so that a host that keeps us waiting (a safe
point, a slow ``on_load``) never holds up keys and screen.
"""

from __future__ import annotations

import gc
import os
import select
import signal
import sys
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Event as Flag
from threading import Lock, Thread, Timer, current_thread, main_thread
from typing import Protocol

from hotreload import hosts, native, session
from hotreload.bell import Bell
from hotreload.builder import Builder
from hotreload.copies import Copies
from hotreload.edits import Edits, Notifier
from hotreload.errors import EXIT_INTERRUPTED, EXIT_NO_HOST, EXIT_OK, ConfigError, HotreloadError, NoHost
from hotreload.examiner import Examiner, described_by
from hotreload.link import Link, is_stopped, runs
from hotreload.meter import HostView, Meter
from hotreload.model import Busy, Failure, HostOptions, Record, Snapshot
from hotreload.session import Outcome, State, Transaction
from hotreload.transaction import Begun, begin, conclude
from hotreload.watcher import Watcher

FIND_SECONDS = 0.1
"""Between two looks for new hosts where inotify does not tell of them: one scandir, some 20 us."""
SNAPSHOT_SECONDS = 0.25
PRESENT_SECONDS = 1.0
"""How long the start waits for hosts that run already: one that is stopped in a debugger must not hold it up."""
AGAIN_SECONDS = 1.0
"""Between two attempts to reach a host whose socket does not answer, and between two looks that nothing asked for."""
END_SECONDS = 1.0
"""How long the end waits for a transaction under way; hanging up takes it back where it is not committed."""
NEVER = float("inf")
SWITCH_SECONDS = 0.0005
"""How long a thread that draws or looks at sources may keep the interpreter from one that carries a new module to a
host; Python's own 5 ms would be thrice the time that the whole way takes."""
GARBAGE = 20_000
"""Objects made since the last collection of garbage, after which Python collects by itself: it does so in the middle of
a swap, for milliseconds. A quiet turn of the runner collects long before."""
GARBAGE_SWEPT = 2_000
"""How many make a quiet turn collect."""
BEGUN_AT_ONCE = 16
"""Modules of a transaction whose request surely fits into the socket's buffer, whatever its host does: 64 KiB."""


class Reporter(Protocol):
    """What the runner needs of a reporter; `hotreload.reporters.Reporter` tells more."""

    broken: bool

    def start(self) -> None: ...
    def update(self, state: State, hosts: Mapping[int, HostView]) -> None: ...
    def record(self, record: Record) -> None: ...
    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Options:
    """What ``hotreload watch`` or ``dev`` was asked for."""

    paths: tuple[Path, ...]
    hosts: tuple[str, ...] = ()
    """Names or pids; empty for all."""
    build: str | None = None
    command: tuple[str, ...] = ()
    """The host to start; empty for none."""
    existing: bool = True
    poll: bool = False
    sources: tuple[Path, ...] = ()
    """Where sources are watched for ``build``; the current directory by default."""
    prepare: str = ""
    """A command to run once, before the first build."""
    busy: Busy = Busy.QUEUE
    restart: bool = False
    """Start the host again when its own code has changed; wait where it cannot be started."""
    restart_on: tuple[Path, ...] = ()
    """Files that are the host's own code beside its program."""
    terminal: bool = False
    """Run builds on a terminal of their own, so that compilers colour their messages."""
    awaited: tuple[Path, ...] = ()
    """Files whose change may change these options."""
    debug_info: bool = True
    """Compare types by debug info where host and module do not describe them."""
    stay: bool = True
    """Go on after the host that we started has exited (a person looks at the screen)."""
    asked: HostOptions = field(default_factory=HostOptions)
    """What every host is asked for when it is attached."""


@dataclass
class _Attached:
    link: Link
    meter: Meter
    snapshot: Snapshot
    alive: bool = True
    known: tuple[object, object] = field(default=((), ()))


class Runner:
    """Runs one session until it is quit.

    Args:
        options: What to do.
        reporter: Makes the reporter from the function that takes what it asks for or tells.
        observe: Called with the state after every step and every record; for the demo.
        reload: Reads the configuration again: the new options. Raises ConfigError.
    """

    def __init__(
        self,
        options: Options,
        reporter: Callable[[Callable[[session.Event], None]], Reporter],
        *,
        observe: Callable[[Record], None] | None = None,
        reload: Callable[[], Options] | None = None,
    ) -> None:
        self._options = options
        self._reload = reload
        self._queue: SimpleQueue[session.Event | _Internal] = SimpleQueue()
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._jobs_given = self._jobs_done = 0
        """Counted by the runner's thread, and by the swapper's."""
        self._swapper = Thread(target=self._swap, name="hotreload-swap", daemon=True)
        self._reporter = reporter(self.send)
        self._observe = observe
        self._finder = hosts.Finder()
        self._attached: dict[int, _Attached] = {}
        self._approached: dict[int, tuple[int, float]] = {}
        """For each pid its socket's inode, and when it may be approached again (``time.monotonic()``)."""
        self._told_stopped: set[int] = set()
        self._stopping = Flag()
        self._look = Bell()
        """Has the finder look at sockets and connections now."""
        self._done = False
        self._interrupted = False
        self._process: hosts.HostProcess | None = None
        self._heard: deque[str] = deque(maxlen=session.OUTPUT_LINES_KEPT)
        self._heard_lock = Lock()
        self._builder = Builder(terminal=options.terminal)
        self._prepared = not options.prepare
        self._own: hosts.OwnCode | None = None
        """The code of the host that we started; None while there is none, or while it is being replaced."""
        self._edits: Edits | None = None
        self._copies = Copies()
        self._examiner = Examiner(self.send)
        self._dirty = True
        self._offered = False
        """A transaction was begun in this turn."""
        self._waiting: list[Flag] = []
        """Whom to tell when nothing is under way; see `wait`."""
        self.state = State(
            build=session.Build(options.build) if options.build else None,
            child=session.Child(options.command) if options.command else None,
            busy=options.busy,
            restart=options.restart,
        )
        self._watcher = Watcher(options.paths, self.send, existing=options.existing, poll=options.poll)

    def send(self, event: session.Event) -> None:
        """Gives the session an event; from any thread."""
        self._queue.put(event)

    def run(self) -> int:
        """Runs until Quit; returns the exit code. The hosts found go on running; the one that we started is ended."""
        self._reporter.start()
        # To the very end: a terminal that is closed says so twice, an impatient user presses Ctrl-C again, and what
        # found Python's own handlers would leave the host running.
        with _signals(self._interrupt):
            try:
                with _undisturbed():
                    self._begin()
                    while not self._done:
                        self._turn()
                return EXIT_INTERRUPTED if self._interrupted else self._exit_code()
            finally:
                self._end()

    def wait(self, seconds: float) -> bool:
        """Waits until what is on disk now has been taken or refused, for a program that runs the session on another
        thread. True when that came within ``seconds``."""
        done = Flag()
        self._watcher.rescan(lambda: self._queue.put(_Internal(lambda: self._waiting.append(done))))
        return done.wait(seconds)

    def _interrupt(self) -> None:
        self._interrupted = True
        self.send(session.Quit())

    # ---- start and end ----

    def _begin(self) -> None:
        if self._options.command and not self._options.build:
            self._start_host()
        self._attach_present()
        for path in self._options.paths:
            if not path.exists() and not self._options.build:  # perhaps a typing error
                self._take(session.Note(f"{path} is not there yet; it is watched as soon as it appears"))
        self._watcher.start()
        if self._options.build:
            # Not before the watcher: what the first build writes would count as built before, and go out in pieces.
            self._take(session.Rebuild())
        self._swapper.start()
        Thread(target=self._find, name="hotreload-find", daemon=True).start()
        self._watch_sources()

    def _attach_present(self) -> None:
        """Hosts that run already come before the first module, so that one transaction reaches all of them."""
        deadline = time.monotonic() + PRESENT_SECONDS
        for thread in self._approach_all(self._finder.sockets()):
            thread.join(max(0.0, deadline - time.monotonic()))
        with suppress(Empty):
            while True:
                self._take(self._queue.get_nowait())

    def _start_host(self) -> None:
        command = self._options.command
        own = hosts.OwnCode.of(command, self._options.restart_on) if self._options.restart else None
        log = hosts.new_log(command[0])
        try:
            # Told on our own thread: it may have ended before its number is known here.
            process = hosts.HostProcess(
                command,
                log,
                lines=self._hear,
                ended=lambda code: self._queue.put(
                    _Internal(lambda: self._take(session.ChildEnded(code, process.pid)))
                ),
            )
        except NoHost as error:
            if not self._options.restart:
                raise
            self._take(session.ChildAbsent(error.reason))
            return
        self._process, self._own = process, own
        self._look.ring()  # its socket may have come before we knew that it is ours
        self.send(session.ChildStarted(process.pid, log))

    def _start_again(self) -> None:
        """Ends our host on a thread of its own, which may take seconds, and then starts its successor."""
        before, self._process, self._own = self._process, None, None

        def work() -> None:
            if before:
                before.stop()
            self._queue.put(_Internal(start))

        def start() -> None:
            if not self._stopping.is_set() and self._process is None and self._options.command:
                self._start_host()

        Thread(target=work, name="hotreload-restart", daemon=True).start()

    def _hear(self, lines: Sequence[str]) -> None:
        """Takes the host's output, on its reader's thread. What comes faster than it can be shown is left out: waiting
        here would stop the host, and a queue of it would fill the memory and hold up modules and keys."""
        with self._heard_lock:
            waiting = bool(self._heard)
            self._heard.extend(lines)
        if not waiting:
            self._queue.put(_Internal(self._take_output))

    def _take_output(self) -> None:
        with self._heard_lock:
            lines = tuple(self._heard)
            self._heard.clear()
        self._take(session.ChildOutput(lines))

    def _end(self) -> None:
        self._stopping.set()
        self._look.ring()
        self._watcher.stop()
        self._jobs.put(None)
        self._examiner.close()
        if self._swapper.is_alive():
            self._swapper.join(END_SECONDS)
        self._tell_last()
        if self._edits:
            self._edits.stop()
        self._builder.stop()
        if self._process:
            self._process.stop()
        for each in self._attached.values():
            each.link.close()
        self._publish()
        self._reporter.close()
        self._copies.close()
        self._look.close()

    def _tell_last(self) -> None:
        """What was swapped while the session was asked to end is told all the same."""
        with suppress(Empty):
            while True:
                event = self._queue.get_nowait()
                if isinstance(event, session.Offered):
                    self._take(event)

    def _exit_code(self) -> int:
        child = self.state.child
        if child and child.exit_code and not self._options.stay:
            return EXIT_NO_HOST
        return EXIT_OK

    # ---- the loop ----

    def _turn(self) -> None:
        deadline = time.monotonic() + SNAPSHOT_SECONDS
        quiet = True
        with suppress(Empty):
            event = self._queue.get(timeout=SNAPSHOT_SECONDS)
            quiet = False
            self._take(event)
            while time.monotonic() < deadline:
                self._take(self._queue.get_nowait())
        if self._offered:
            self._offered = False  # the swapper needs the interpreter more than the counters do
        else:
            self._look_at_hosts()
        self._publish()
        self._tell_waiting()
        self._maybe_finish()
        if quiet and gc.get_count()[0] > GARBAGE_SWEPT:
            gc.collect(1)

    def _tell_waiting(self) -> None:
        if self.state.transaction is None:
            for each in self._waiting:
                each.set()
            self._waiting.clear()

    def _take(self, event: session.Event | _Internal) -> None:
        if isinstance(event, _Internal):
            event.run()
            return
        self.state, actions = session.step(self.state, event, time.time())
        self._dirty = True
        # Offers first: telling people about a module takes longer than giving it to a host.
        for action in sorted(actions, key=lambda each: not isinstance(each, session.Offer)):
            self._perform(action)
        child = self.state.child
        if isinstance(event, session.BuildEnded) and child and self._process is None and not child.restarting:
            self._start_host()  # only now: the first build may have made the program itself

    def _perform(self, action: session.Action) -> None:
        if isinstance(action, session.Show):
            self._reporter.record(action.record)
            if self._observe:
                self._observe(action.record)
        elif isinstance(action, session.Offer):
            self._offer(action.transaction)
        elif isinstance(action, session.TakeBack):
            self._take_back(action.pid, action.module)
        elif isinstance(action, session.RunBuild):
            Thread(target=self._run_build, name="hotreload-build", daemon=True).start()
        elif isinstance(action, session.StopBuild):
            self._builder.stop()
        elif isinstance(action, session.StartHost):
            self._start_again()
        elif isinstance(action, session.After):
            timer = Timer(action.seconds, self.send, (action.event,))
            timer.daemon = True
            timer.start()
        elif isinstance(action, session.Forget):
            self._watcher.forget(action.path)
        elif isinstance(action, session.Finish):
            self._done = True

    def _maybe_finish(self) -> None:
        child = self.state.child
        alone = not any(each.attached for each in self.state.hosts.values())
        if self._reporter.broken or (child and child.exit_code is not None and alone and not self._options.stay):
            self._done = True

    def _publish(self) -> None:
        views = {pid: HostView(each.snapshot, each.meter) for pid, each in self._attached.items()}
        self._reporter.update(self.state, views)

    # ---- hosts ----

    def _find(self) -> None:
        """The finder's thread: new sockets by name, lost connections by their hang-up."""
        notifier = Notifier.open()
        try:
            while not self._stopping.is_set():
                if notifier:
                    notifier.add(str(self._finder.directory))  # again: it may be another one by that name now
                    notifier.read()  # before the look: what comes during it makes the next one
                self._look.hush()
                present = self._finder.sockets()
                self._approach_all(present)
                for pid in self._approached.keys() - present.keys():
                    self._approached.pop(pid, None)
                self._wait_for_sockets(notifier)
        finally:
            if notifier:
                notifier.close()

    def _approach_all(self, sockets: Mapping[int, Path]) -> list[Thread]:
        """Connects to those that are new, each on a thread: a host that is stopped, or that serves only now and then,
        keeps neither the others nor keys and screen waiting."""
        threads = []
        for pid, path in sorted(sockets.items()):
            with suppress(OSError):
                identity = path.stat().st_ino
                known, again = self._approached.get(pid, (0, 0.0))
                if (known == identity and time.monotonic() < again) or not self._may_attach(pid):
                    continue
                self._approached[pid] = (identity, NEVER)
                threads.append(Thread(target=self._approach, args=(pid, path), name="hotreload-approach", daemon=True))
                threads[-1].start()
        return threads

    def _approach(self, pid: int, path: Path) -> None:
        if is_stopped(pid):
            self._approach_again(pid)
            if pid not in self._told_stopped:
                self._told_stopped.add(pid)
                self.send(session.Note(f"host {pid} {_STOPPED}"))
            return
        self._told_stopped.discard(pid)
        try:
            link = Link(path)
            if link.host.pid != pid:
                link.close()
                raise native.protocol_error(f"the host says that it is process {link.host.pid}")
            self._ask_options(link)
        except NoHost:  # a dead host's socket, which its successor removes; or no answer yet
            self._approach_again(pid)
        except HotreloadError as error:
            self.send(session.Note(f"host {pid}: {error}"))
        else:
            self._queue.put(_Internal(lambda: self._attach(pid, link)))

    def _ask_options(self, link: Link) -> None:
        try:
            link.set_options(self._options.asked)
        except NoHost:
            link.close()
            raise
        except HotreloadError as error:  # watched all the same, without what its shim does not offer
            self.send(session.Note(f"host {link.host.pid}: {error}"))

    def _approach_again(self, pid: int) -> None:
        identity, _ = self._approached.get(pid, (0, 0.0))
        self._approached[pid] = (identity, time.monotonic() + AGAIN_SECONDS)

    def _wait_for_sockets(self, notifier: Notifier | None) -> None:
        """Until one comes or goes, one of ours hangs up, or the bell rings; or it is time to look again."""
        poll = select.poll()
        poll.register(self._look, select.POLLIN)
        if notifier:
            poll.register(notifier.fd, select.POLLIN)
        by_fd: dict[int, int] = {}
        for pid, each in list(self._attached.items()):
            fd = each.link.fileno()
            if each.alive and fd >= 0:
                poll.register(fd, select.POLLRDHUP)
                by_fd[fd] = pid
        seconds = AGAIN_SECONDS if notifier and notifier.complete else FIND_SECONDS
        lost = [by_fd[fd] for fd, _ in poll.poll(seconds * 1000) if fd in by_fd]
        for pid in lost:
            self._queue.put(_Internal(lambda pid=pid: self._lose(pid)))  # type: ignore[misc]
        if lost:
            self._stopping.wait(0.01)

    def _attach(self, pid: int, link: Link) -> None:
        known = self._attached.get(pid)
        if (known and known.alive) or not hosts.chosen(link.host.name, pid, self._options.hosts):
            link.close()
            return
        self._forget_gone(link.host.name)
        snapshot = link.snapshot(time.monotonic())
        attached = _Attached(link, Meter(), snapshot, known=(snapshot.slots, snapshot.modules))
        attached.meter.observe(snapshot)
        self._attached[pid] = attached
        self._look.ring()  # to wait for its hang-up
        if self._own and (program := _program(pid)) and self._is_descendant(pid):
            self._own.add(program)  # a runner (cargo run, a script) has started another program
        self._take(session.HostFound(link.host, *_known(snapshot)))

    def _forget_gone(self, name: str) -> None:
        """A successor takes its predecessor's place; of the others the newest stay on screen."""
        gone = [pid for pid, each in self._attached.items() if not each.alive]
        for pid in gone:
            if self._attached[pid].link.host.name == name or pid in gone[: -session.GONE_KEPT]:
                del self._attached[pid]

    def _may_attach(self, pid: int) -> bool:
        """A host that we start ourselves is the one that is meant, unless hosts were named."""
        if not self._options.command or self._options.hosts:
            return True
        return self._process is not None and (pid == self._process.pid or self._is_descendant(pid))

    def _is_descendant(self, pid: int) -> bool:
        """The command may be a shell or a runner (cargo run) whose child is the host: they share our new session."""
        with suppress(OSError):
            return self._process is not None and os.getsid(pid) == self._process.pid
        return False

    def _lose(self, pid: int) -> None:
        each = self._attached.get(pid)
        if each is None or not each.alive:
            return
        each.alive = False
        each.snapshot = each.link.snapshot(time.monotonic(), alive=False)
        each.link.close()
        self._approach_again(pid)  # it may run on: the connection is given up when an answer makes no sense
        self._take(session.HostLost(pid, _why_lost(pid)))

    def _look_at_hosts(self) -> None:
        now = time.monotonic()
        for pid, each in list(self._attached.items()):
            if not each.alive or (now - each.snapshot.time < SNAPSHOT_SECONDS * 0.8 and not self._dirty):
                continue
            each.snapshot = each.link.snapshot(now)
            each.meter.observe(each.snapshot)
            seen = tuple(each.link.foreign_events())
            if seen:
                self._take(session.Seen(pid, seen))
            if (each.snapshot.slots, each.snapshot.modules) is not each.known:
                self._tell_changes(pid, each)
        self._dirty = False

    def _tell_changes(self, pid: int, each: _Attached) -> None:
        slots, modules = each.known
        if slots is each.snapshot.slots and modules is each.snapshot.modules:
            return
        each.known = (each.snapshot.slots, each.snapshot.modules)
        symbols, running = _known(each.snapshot)
        state = self.state.hosts.get(pid)
        if state and (symbols != state.symbols or not running <= state.modules):
            self._take(session.HostChanged(pid, symbols, running))

    # ---- transactions, on the swapper's thread ----

    def _swap(self) -> None:
        while (job := self._jobs.get()) is not None:
            job.do()
            self._jobs_done += 1

    def _give(self, job: _Job) -> None:
        self._jobs_given += 1
        self._jobs.put(job)

    def _offer(self, transaction: Transaction) -> None:
        links = {pid: self._attached[pid].link for pid in transaction.offers if pid in self._attached}

        def failed(failure: Failure) -> None:
            for link in links.values():  # it may have prepared: a host takes that back when it is hung up on
                link.hang_up()
            self.send(session.Offered(transaction.number, dict.fromkeys(transaction.offers, Outcome(failure=failure))))

        with _ended(failed):
            self._give(_Job(self._begin_offer(transaction, links), failed))
            self._offered = True

    def _begin_offer(self, transaction: Transaction, links: Mapping[int, Link]) -> Callable[[], None]:
        """Returns what is left for the swapper."""
        begun: Begun | None = None
        small = all(len(wanted) <= BEGUN_AT_ONCE for wanted in transaction.offers.values())
        examined = self._options.debug_info and self._examiner.concerns(transaction, links)
        told = {pid: described_by(self._attached[pid].snapshot) for pid in links} if examined else {}
        if small and not examined and self._jobs_given == self._jobs_done:
            # Here, while the swapper has nothing to do with these links: waking it first would cost the host's time.
            begun = begin(transaction, links)

        def rest() -> None:
            refused, late = self._examiner.examine(transaction, links, told) if examined else ({}, [])
            concluded = refused or conclude(transaction, links, begun or begin(transaction, links))
            answered = time.time()
            outcomes = {pid: self._copies.keep(transaction.offers[pid], each) for pid, each in concluded.items()}
            self.send(session.Offered(transaction.number, outcomes, answered))
            self._examiner.follow(late, outcomes)

        return rest

    def _take_back(self, pid: int, module: str | None) -> None:
        link = self._attached[pid].link

        def job() -> None:
            try:
                reply = link.rollback(module)
                outcome = Outcome(reply.reports, reply.failure)
            except HotreloadError as error:
                outcome = Outcome(failure=Failure.of(error))
            self.send(session.RolledBack(pid, outcome))

        self._give(_Job(job, lambda failure: self.send(session.RolledBack(pid, Outcome(failure=failure)))))

    # ---- builds ----

    def _run_build(self) -> None:
        command = self._options.build or ""
        if not self._prepared:
            command = f"{{ {self._options.prepare}\n}} && {{ {command}\n}}"
        done = self._builder.run(command, lambda line: self.send(session.BuildLine(line)))
        self._prepared = self._prepared or done.exit_code == 0
        outdated = self._outdated() if done.exit_code == 0 else frozenset()
        self.send(session.BuildEnded(done.exit_code, done.seconds, done.ended, done.problems, done.stopped, outdated))
        self._watcher.rescan(lambda: self.send(session.Flush()))

    def _outdated(self) -> frozenset[int]:
        """Our hosts, where their own code is another now; the number of the program started where none has attached."""
        own, process = self._own, self._process
        if own is None or process is None or not own.changed():
            return frozenset()
        return frozenset({process.pid, *(pid for pid in list(self._attached) if self._is_descendant(pid))})

    # ---- sources and configuration ----

    def _watch_sources(self) -> None:
        options, before = self._options, self._edits
        wanted = bool(options.build or options.awaited or options.restart)
        sources = (options.sources or (Path(),)) if options.build else ()
        files = [path for path in sources if path.is_file()]
        roots = [path for path in sources if path not in files]
        special = (*options.awaited, *files)
        if before and wanted and before.watches(roots, options.paths, special):
            return
        if before:
            before.stop()
        self._edits = None
        if wanted:
            self._edits = Edits(roots, options.paths, special, self._edited, idle=self._look_at_own_code)
            self._edits.start(before)

    def _edited(self, paths: Sequence[str], saved: float) -> None:
        if not {path.resolve() for path in self._options.awaited}.isdisjoint(map(Path, paths)):
            self._queue.put(_Internal(self._configure))
        sources = [path for path in paths if Path(path).name != _CONFIG]
        if sources and self._options.build:
            self.send(session.SourcesChanged(sources[0], saved))

    def _look_at_own_code(self) -> None:
        """On the thread that watches sources: somebody else may have built our host."""
        own = self._own
        if own is None or self._busy_building() or not own.changed() or not own.settled():
            return
        if (outdated := self._outdated()) and not self._busy_building():
            self.send(session.HostOutdated(outdated))
            self._stopping.wait(SNAPSHOT_SECONDS)  # until the session has begun to end that host

    def _busy_building(self) -> bool:
        return self.state.build is not None and self.state.build.phase is session.BuildPhase.RUNNING

    def _configure(self) -> None:
        if self._reload is None:
            return
        try:
            new = self._reload()
        except ConfigError as error:
            self._take(session.Misconfigured(Failure.of(error)))
            return
        old, self._options = self._options, new
        if new == old:
            return
        watched = None
        if (new.paths, new.poll) != (old.paths, old.poll):
            watched = new.paths
            self._watcher.stop()
            self._watcher = Watcher(new.paths, self.send, existing=True, poll=new.poll)
        self._take(session.Configured(new.build, new.command, new.busy, new.restart, watched))
        if watched is not None:
            self._watcher.start()
        self._watch_sources()


_CONFIG = "hotreload.toml"
"""The one file of configuration that is nothing else: a change of it builds nothing."""


@dataclass(frozen=True, slots=True)
class _Internal:
    """Work for the runner's own thread."""

    run: Callable[[], None]


@dataclass(frozen=True, slots=True)
class _Job:
    """Work for the swapper. ``failed`` tells whoever waits for it of a fault of ours: it ends what it happened in,
    never the thread, which the next transaction needs."""

    work: Callable[[], None]
    failed: Callable[[Failure], None]

    def do(self) -> None:
        with _ended(self.failed):
            self.work()


@contextmanager
def _ended(failed: Callable[[Failure], None]) -> Iterator[None]:
    """What goes wrong inside ends there, and is told."""
    try:
        yield
    except Exception as error:
        at = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{Path(at.filename).name}:{at.lineno}"
        reason = f"a fault of hotreload itself: {type(error).__name__} at {place}: {error}"
        failed(Failure(session.INTERNAL, reason, fix="report it with this line; a new build is offered again"))


@contextmanager
def _signals(interrupt: Callable[[], None]) -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP end the session in order: the terminal is given back, what we started is ended."""
    if current_thread() is not main_thread():
        yield
        return
    wanted = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, lambda *_: interrupt()) for each in wanted}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Lets neither the drawing thread nor the collection of garbage hold up a swap; undone at the end, a notebook goes
    on without us."""
    interval, thresholds = sys.getswitchinterval(), gc.get_threshold()
    sys.setswitchinterval(SWITCH_SECONDS)
    alone = current_thread() is main_thread()  # elsewhere the garbage is somebody else's
    if alone:
        gc.set_threshold(GARBAGE, *thresholds[1:])
        gc.freeze()  # what is there already, modules and all, is none
    try:
        yield
    finally:
        sys.setswitchinterval(interval)
        if alone:
            gc.unfreeze()
            gc.set_threshold(*thresholds)


def _known(snapshot: Snapshot) -> tuple[frozenset[str], frozenset[str]]:
    symbols = frozenset(slot.symbol for slot in snapshot.slots)
    return symbols, frozenset(record.module.name for record in snapshot.modules if record.generation)


def _program(pid: int) -> Path | None:
    """The program of a process, where it lies below the current directory: a system's interpreter is not ours."""
    try:
        path = Path(f"/proc/{pid}/exe").readlink()
    except OSError:
        return None
    return path if path.is_relative_to(Path.cwd()) and path.exists() else None


_STOPPED = "is stopped, by a signal or a debugger; it gets what is new when it goes on"


def _why_lost(pid: int) -> str:
    if is_stopped(pid):
        return f"the host {_STOPPED}"
    return "the host stopped serving" if runs(pid) else "the host has exited"
