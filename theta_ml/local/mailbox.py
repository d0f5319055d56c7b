"""A mail server for one machine: accepts everything, keeps it in a Maildir, sends nothing on."""

import asyncio
import signal
import sys
from functools import partial
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

LARGEST_MESSAGE = 32 * 2**20
"""Bytes; a mail with inline images fits."""


async def serve(folder: Path, port: int, host: str = "127.0.0.1") -> None:
    """Run until SIGTERM; on loopback, unless told."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    # A folder that is there already, but not as a Maildir, would refuse every mail.
    for part in ("tmp", "new", "cur"):
        (folder / part).mkdir(mode=0o700, parents=True, exist_ok=True)
    session = partial(SMTP, Mailbox(folder), data_size_limit=LARGEST_MESSAGE, enable_SMTPUTF8=True, ident="theta")
    server = await loop.create_server(session, host, port)
    async with server:
        await stop.wait()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), int(sys.argv[2]), *sys.argv[3:]))
