"""A stand-in for a store that speaks S3's protocol: moto's server, in a process of its own.

It checks each request's signature, and refuses whatever the policy in docs/operations.md does not allow.
"""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import boto3
from botocore.config import Config

BUCKET = "recordings-of-acme"
REGION = "eu-central-1"
OPERATIONS = Path(__file__).resolve().parent.parent / "docs" / "operations.md"
FIRST_REQUESTS = 4  # before the server asks for signatures: user, policy, key, bucket
START_SECONDS = 30


class ObjectServer:
    """The store, with one bucket, and a key of somebody who may do what the documentation says, there and in it."""

    def __init__(self, folder: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        with (folder / "objects.log").open("ab") as output:
            self.child = subprocess.Popen(
                [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(self.port)],
                stdout=output,
                stderr=output,
                env={**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(FIRST_REQUESTS)},
            )
        self._wait_for_start()
        nobody = {"aws_access_key_id": "nobody", "aws_secret_access_key": "nothing"}
        iam = self._client("iam", **nobody)
        iam.create_user(UserName="warmline")
        iam.put_user_policy(UserName="warmline", PolicyName="recordings", PolicyDocument=documented_policy())
        key = iam.create_access_key(UserName="warmline")["AccessKey"]
        self._client("s3", **nobody).create_bucket(
            Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION}
        )
        self.credentials = {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        self.client = self._client("s3", **{name.lower(): value for name, value in self.credentials.items()})

    @property
    def options(self) -> dict[str, Any]:
        """What RECORDINGS_STORAGE_OPTIONS holds."""
        return {
            "bucket_name": BUCKET,
            "endpoint_url": self.url,
            "region_name": REGION,
            "addressing_style": "path",
            "location": "calls",
        }

    def freeze(self) -> None:
        """Have it take connections, as the kernel does, and answer nothing."""
        self.child.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.child.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        self.child.kill()
        self.child.wait(10)

    def _client(self, service: str, **credentials: str) -> Any:
        config = Config(connect_timeout=5, read_timeout=10, s3={"addressing_style": "path"})
        return boto3.client(service, endpoint_url=self.url, region_name=REGION, config=config, **credentials)

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while True:
            assert self.child.poll() is None and time.monotonic() < deadline, "the object server does not start"
            try:
                return socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)


def documented_policy() -> str:
    """Return the policy that the documentation shows."""
    (policy,) = re.findall(r"```json\n(\{\s*\"Version\".*?)```", OPERATIONS.read_text(), re.DOTALL)
    assert BUCKET in policy
    return json.dumps(json.loads(policy))
