"""An SFTP server on loopback, of the folder that is named, for whoever comes. Prints its line of known_hosts; ends when its standard input does."""

import asyncio
import sys

import asyncssh


class Open(asyncssh.SSHServer):
    def begin_auth(self, username: str) -> bool:
        return not username  # nobody is asked who he is


async def main(root: str) -> None:
    key = asyncssh.generate_private_key("ssh-ed25519")
    server = await asyncssh.listen(
        "127.0.0.1", 0, server_host_keys=[key], server_factory=Open, sftp_factory=lambda channel: asyncssh.SFTPServer(channel, chroot=root.encode())
    )
    print(f"[127.0.0.1]:{server.get_port()} {key.export_public_key().decode().strip()}", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


asyncio.run(main(sys.argv[1]))
