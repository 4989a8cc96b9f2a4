"""For install.sh: check a configuration, and print the drop-in that lets the network in where it says so.

    python -I network.py /etc/parfocal/parfocal.toml

Exit code 2 and one line where the release that this Python belongs to does not accept the configuration.
"""

from __future__ import annotations

import ipaddress
import sys

from edge.config import load_config
from edge.errors import InputError

OPEN = """\
# [api] host = "{host}": the page is open to other computers, who need the token. Remade by install.sh.
[Service]
IPAddressDeny=
IPAddressAllow=
"""
CLOSED = '# [api] host = "{host}": this computer only, as the unit says. Remade by install.sh.\n'


def stays_inside(host: str) -> bool:
    """Whether an address to listen on is this computer's own; a name other than localhost is not."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def main(path: str) -> int:
    """Print the drop-in for the configuration at ``path``."""
    try:
        host = load_config(path).api.host
    except InputError as error:
        print(error, file=sys.stderr)
        return 2
    print((CLOSED if stays_inside(host) else OPEN).format(host=host), end="")
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1]))
