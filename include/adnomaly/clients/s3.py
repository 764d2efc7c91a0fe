"""S3: the operations used of any store with the plain S3 API."""

from collections.abc import Iterator
from contextlib import contextmanager

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from adnomaly.errors import Unavailable

_CONDITION_FAILED = ("PreconditionFailed", "ConditionalRequestConflict", "412")


class ObjectStore:
    """One bucket. Every method raises `Unavailable` while the store cannot be reached; the call may
    have taken effect.
    """

    def __init__(
        self, endpoint: str, access_key: str, secret_key: str, bucket: str, *, region: str
    ) -> None:
        self.bucket = bucket
        config = Config(
            s3={"addressing_style": "path"},
            retries={"total_max_attempts": 2},
            connect_timeout=5,
            read_timeout=60,
        )
        self._client = boto3.client(
            "s3",
            endpoint_url=endpoint,
            aws_access_key_id=access_key,
            aws_secret_access_key=secret_key,
            region_name=region,
            config=config,
        )

    def put(self, key: str, body: bytes) -> None:
        """Write or replace an object."""
        with _reachable(key):
            self._client.put_object(Bucket=self.bucket, Key=key, Body=body)

    def put_new(self, key: str, body: bytes) -> bool:
        """Create an object; False when the key exists already."""
        try:
            with _reachable(key):
                self._client.put_object(Bucket=self.bucket, Key=key, Body=body, IfNoneMatch="*")
        except ClientError as error:
            if error.response["Error"]["Code"] in _CONDITION_FAILED:
                return False
            raise
        return True

    def get(self, key: str) -> bytes:
        """The bytes of an object.

        Raises:
            KeyError: the key does not exist.
        """
        try:
            with _reachable(key):
                body: bytes = self._client.get_object(Bucket=self.bucket, Key=key)["Body"].read()
        except ClientError as error:
            if error.response["Error"]["Code"] in ("NoSuchKey", "404"):
                raise KeyError(key) from None
            raise
        return body

    def etags(self, prefix: str) -> dict[str, str]:
        """Keys below a prefix with their entity tags (the MD5 of an object that was put in one
        part), in order.
        """
        etags: dict[str, str] = {}
        with _reachable(prefix):
            for page in self._client.get_paginator("list_objects_v2").paginate(
                Bucket=self.bucket, Prefix=prefix
            ):
                etags |= {
                    entry["Key"]: entry["ETag"].strip('"') for entry in page.get("Contents", ())
                }
        return etags

    def delete(self, key: str) -> None:
        """Delete an object; a missing key is no error."""
        with _reachable(key):
            self._client.delete_object(Bucket=self.bucket, Key=key)

    def check_conditional_writes(self) -> None:
        """Check that the store supports conditional writes.

        Raises:
            RuntimeError: `If-None-Match: *` is ignored.
        """
        key = "probe/conditional-write"
        self.put(key, b"first")
        if self.put_new(key, b"second"):
            raise RuntimeError(
                "this S3 store ignores If-None-Match, so objects of the lake could be overwritten; use another store"
            )


@contextmanager
def _reachable(what: str) -> Iterator[None]:
    """Raise `Unavailable` for faults of the network and the server; refusals pass through."""
    try:
        yield
    except BotoCoreError as error:
        raise Unavailable(f"S3 {what}: {error}") from error
    except ClientError as error:
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 500) in (
            429,
            500,
            502,
            503,
            504,
        ):
            raise Unavailable(f"S3 {what}: {error}") from error
        raise
