"""`parfocal serve`: checks everything, then runs the service until SIGTERM."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from edge import calibration, hardware, model_store
from edge.calibration import Calibration
from edge.cli import version
from edge.config import Config, load_config
from edge.errors import InputError, one_line
from edge.model import Model
from edge.rig import Rig, simulated_rig, without_hardware
from edge.service import journald
from edge.service.feed import Feed
from edge.service.notify import Watchdog, notify
from edge.service.owner import Owner, state_folder
from edge.service.runs import Runs
from edge.service.service import Busy, Service
from firmware_iface.clock import Clock, RealClock

if TYPE_CHECKING:
    from edge.service.panel import Panel

__all__ = ["add_arguments", "run"]

log = logging.getLogger(__name__)

_SIGNALS = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGUSR1})
_LEAST_TOKEN = 22
#: How long the page waits for the first frame to be judged: what loads it would be in the way.
_PAGE_WAITS_S = 10.0


def add_arguments(name: str, parser: argparse.ArgumentParser) -> None:
    """Give ``parser`` the options of `serve`."""
    parser.add_argument(
        "--config", metavar="FILE", help="TOML file; `parfocal config` prints one with every key"
    )
    parser.add_argument(
        "--rig",
        choices=("simulated", "hardware"),
        help="not said: hardware with a config that names its drivers, else simulated, in real time",
    )


def run(name: str, args: argparse.Namespace) -> int:
    """Serve until SIGTERM or Ctrl-C; returns 0. MOVES the stage. InputError before anything has moved."""
    with contextlib.ExitStack() as opened:
        signals = opened.enter_context(_Signals())
        return _serve(args, load_config(args.config), signals)


class _Signals:
    """SIGTERM, SIGINT and SIGUSR1 as numbers in a pipe. Python writes them there at once, whatever thread the
    system chose for them; a handler would wait for the main thread and run in the middle of its work.
    """

    def __enter__(self) -> _Signals:
        self._read, self._write = socket.socketpair()
        self._write.setblocking(False)
        heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
        self._before = {number: signal.signal(number, lambda *_: None) for number in heard}
        self._fd = signal.set_wakeup_fd(self._write.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._fd)
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._write.close()
        self._read.close()

    @contextlib.contextmanager
    def to(self, service: Service) -> Iterator[None]:
        """The service hears them: SIGUSR1 asks for a focus, the others end it."""

        def wait() -> None:
            while number := self._read.recv(1):
                if number[0] != signal.SIGUSR1:
                    service.shut_down()
                    continue
                try:
                    service.focus("signal")
                except Busy as why:
                    log.info("SIGUSR1 is not heard: %s", why)

        thread = threading.Thread(target=wait, name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            self._write.shutdown(socket.SHUT_RDWR)
            thread.join()


def _serve(args: argparse.Namespace, config: Config, signals: _Signals) -> int:
    kind = args.rig or ("hardware" if hardware.is_configured(config) else "simulated")
    journald.begin()
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    clock = RealClock()
    watchdog = Watchdog(clock)
    with contextlib.ExitStack() as opened:
        folder = state_folder()
        opened.enter_context(Owner(folder))
        token = read_token(config)
        listening = (
            opened.enter_context(contextlib.closing(_listen(config, token))) if config.api.enabled else None
        )
        network, model_note = _network(config)
        feed = Feed(fps=config.api.preview_fps, px=config.api.preview_px)
        service = Service(
            config,
            network,
            _opener(kind, config, clock, watchdog.fed),
            runs=Runs(folder / "runs", config.service.history),
            feed=feed,
            collected=folder / "collected",
            clock=clock,
            version=version(),
            model_note=model_note,
            beat=watchdog.fed,
            announce=_announce,
        )
        opened.enter_context(signals.to(service))
        opened.callback(notify, "STOPPING=1")
        if listening is not None:
            opened.enter_context(_page(config, service, listening, token))
        if config.gpio.focus_pin is not None or config.gpio.led_pin is not None:
            opened.enter_context(_panel(config, clock, service))
        service.run()
    log.info("stopped", extra={"fields": {"EVENT": "stopped"}})
    return 0


def _network(config: Config) -> tuple[Model, str | None]:
    """The model in force, and why it is not the one that was chosen."""
    network, fell_back = model_store.open_model(config)
    for text in fell_back:
        log.warning("%s", text, extra={"fields": {"EVENT": "model", "MODEL": network.name}})
    return network, "; ".join(fell_back) or None


def _announce(text: str) -> None:
    notify("READY=1", f"STATUS={text}")


def _opener(kind: str, config: Config, clock: Clock, beat: Callable[[], None]) -> Callable[[], Rig]:
    if kind == "hardware":
        hardware.check_keys(config)
        return lambda: hardware.hardware_rig(config, _calibration(config))
    log.warning("simulated rig: no hardware is used")
    start_um = config.simulator.start_defocus_um
    return lambda: simulated_rig(
        config,
        start_defocus_um=start_um,
        clock=clock,
        progress=lambda share: beat(),
        calibration=_calibration(without_hardware(config)),
    )


def _calibration(config: Config) -> Calibration | None:
    """The one in force; one that cannot be read is logged."""
    found, note = calibration.in_force(config)
    if note is not None:
        log.warning(note)
    return found


def _panel(config: Config, clock: Clock, service: Service) -> Panel:
    from edge.service.panel import Panel  # where there are neither, nothing of GPIO is loaded

    pins = config.gpio
    return Panel(
        clock,
        button_pin=pins.focus_pin,
        closed_level=1 if pins.focus_pressed == "high" else 0,
        led_pin=pins.led_pin,
        pressed=service.press,
        state=lambda: service.state,
    )


def read_token(config: Config) -> str | None:
    """The token that every request must bring; None where none is kept. InputError for one that will not
    do."""
    name = config.api.token_file
    if name == "none" or not config.api.enabled:
        return None
    folder = os.environ.get("CONFIGURATION_DIRECTORY", "").partition(":")[0] or "/etc/parfocal"
    path = Path(folder, "token") if name == "auto" else Path(name)
    try:
        text = path.read_text("ascii").strip()
    except (OSError, ValueError) as error:
        if name == "auto" and isinstance(error, FileNotFoundError):
            return None
        raise InputError(f"[api] token_file {path}: cannot be read: {one_line(error)}") from error
    if len(text) < _LEAST_TOKEN or not text.isprintable() or " " in text:
        raise InputError(
            f"[api] token_file {path}: one line of at least {_LEAST_TOKEN} characters is allowed"
        )
    return text


def _listen(config: Config, token: str | None) -> socket.socket:
    """A socket on which the page will be; clients wait on it until it is."""
    host, port = config.api.host, config.api.port
    # Found out now; loaded only after the first frame was judged.
    if missing := [name for name in ("fastapi", "uvicorn") if find_spec(name) is None]:
        raise InputError(
            f"the page needs {', '.join(missing)}: pip install 'parfocal[serve]', or [api] enabled = false"
        )
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        if token is None and not _is_loopback(str(address[0])):
            raise InputError(
                f"[api] host = {host}: beyond this computer only with a token, and token_file names none"
            )
        return socket.create_server(address[:2], family=family)
    except OSError as error:
        raise InputError(
            f"[api] {host} port {port}: cannot listen there: {error.strerror or error}"
        ) from error


def _is_loopback(address: str) -> bool:
    import ipaddress

    return ipaddress.ip_address(address.partition("%")[0]).is_loopback


@contextlib.contextmanager
def _page(config: Config, service: Service, listening: socket.socket, token: str | None) -> Iterator[None]:
    """The HTTP interface, loaded once the first frame was judged; ended when the block is."""
    ended = threading.Event()

    def serve() -> None:
        service.judged.wait(_PAGE_WAITS_S)
        if ended.is_set():
            return
        from edge.service.api import Server, Streams, create_app
        from edge.service.door import own_names

        names = own_names((config.api.names or "localhost").split(","))
        streams = Streams()
        server = Server(create_app(service, streams, token=token, names=names), listening, streams)
        host, port = listening.getsockname()[:2]
        log.info("the page is at http://%s:%d", host, port, extra={"fields": {"EVENT": "page"}})
        ended.wait()
        server.close()

    thread = threading.Thread(target=serve, name="page", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join(4.0)
