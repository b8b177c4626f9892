"""The file system behind a URL: pyarrow's own where it has one, else fsspec's.

S3 and what speaks its protocol: ``s3://bucket/folder``, with ``?region=…``, or with
``?endpoint_override=host:port&scheme=http`` for a store that is not Amazon's. The variables
``AWS_ENDPOINT_URL_S3`` and ``AWS_ENDPOINT_URL`` say the same for all URLs that do not.

Credentials come from the environment (``AWS_ACCESS_KEY_ID`` and so on), from the usual files or
from the machine's role, never from a URL: it ends in process lists, logs and ``dataset.json``.
"""

import os
from typing import NamedTuple
from urllib.parse import parse_qsl

import pyarrow as pa
from pyarrow import fs

from mixnmatch.data.info import one_line
from mixnmatch.errors import DataError, RunError

_S3_OPTIONS = ("region", "endpoint_override", "scheme")
_SECRETS = ("key", "secret", "token", "password", "credential", "sig")
# Seconds. A store that is away is given up after three tries, in half a minute at the most.
_CONNECT_TIMEOUT = 5
_REQUEST_TIMEOUT = 60
_GCS_RETRY = 30


class Opened(NamedTuple):
    """A folder in a file system."""

    system: fs.FileSystem
    base: str
    """Of the folder, in the file system's own words, without a slash at the end."""
    name: str
    """Its URL without the query, for messages."""


def open_url(url: str) -> Opened:
    """The file system of a URL. It and its credentials can be sent to other processes.

    Args:
        url: Such as ``s3://bucket/folder``.

    Raises:
        DataError: If no file system of that kind is known, it has an option that is unknown, or
            credentials.
        RunError: If the region of a bucket cannot be found out.
    """
    scheme, _, rest = url.partition("://")
    location, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    _refuse_secrets(scheme, location, options)
    name = f"{scheme}://{location}"
    if scheme == "s3":
        return _s3(name, location, options)
    if scheme == "gs" and "retry_limit_seconds" not in options:  # a quarter of an hour
        url += f"{'&' if query else '?'}retry_limit_seconds={_GCS_RETRY}"
    try:
        system, base = _any(url)
    except Exception as error:  # fsspec's systems raise what they like
        raise DataError(
            f"{name}: no such kind of storage ({one_line(error)}); a path will do, or a URL such "
            "as s3://bucket/folder"
        ) from error
    return Opened(system, base.rstrip("/"), name)


def _refuse_secrets(scheme: str, location: str, options: dict[str, str]) -> None:
    # A password may hold anything, slashes too: what is before an "@" may be one.
    host = location.partition("/")[0]
    secret = ":" in location.rpartition("@")[0]
    if scheme == "s3":  # buckets hold neither
        secret = ":" in host or "@" in host
    if secret or any(word in key.lower() for key in options for word in _SECRETS):
        raise DataError(
            f"{scheme}://…: the URL holds a key or password, which is refused because it would end "
            "in logs: give it in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY) or in "
            "the storage's own settings"
        )


def _s3(name: str, location: str, options: dict[str, str]) -> Opened:
    bucket = location.partition("/")[0]
    if not bucket:
        raise DataError(f"{name}: names no bucket; such a URL is s3://bucket/folder")
    unknown = sorted(options.keys() - set(_S3_OPTIONS))
    if unknown:
        raise DataError(f"{name}: option {unknown[0]!r} must be one of {', '.join(_S3_OPTIONS)}")
    environment = os.environ
    endpoint = (
        options.get("endpoint_override")
        or environment.get("AWS_ENDPOINT_URL_S3")
        or environment.get("AWS_ENDPOINT_URL")
        or ""
    )
    scheme, separator, address = endpoint.rpartition("://")
    scheme = options.get("scheme") or scheme or "https"
    address = address.rstrip("/")
    if scheme not in ("http", "https") or set(address) & set("@/?") or (separator and not address):
        raise DataError(f"{name}: its endpoint must be host:port, with scheme http or https")
    region = options.get("region")
    if not region and not address:
        try:
            region = fs.resolve_s3_region(bucket)
        except OSError as error:
            raise RunError(f"{name}: {one_line(error)}") from error
    # Those of the environment are named, so that they go along to other processes.
    key, secret = (environment.get(f"AWS_{k}") for k in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
    known = (
        {
            "access_key": key,
            "secret_key": secret,
            "session_token": environment.get("AWS_SESSION_TOKEN") or None,
        }
        if key and secret
        else {}
    )
    system = fs.S3FileSystem(
        region=region,
        endpoint_override=address or None,
        scheme=scheme,
        connect_timeout=_CONNECT_TIMEOUT,
        request_timeout=_REQUEST_TIMEOUT,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=3),
        **known,
    )
    return Opened(system, location.strip("/"), name)


def _any(url: str) -> tuple[fs.FileSystem, str]:
    try:
        system, base = fs.FileSystem.from_uri(url)
    except pa.ArrowInvalid:
        import fsspec

        theirs, base = fsspec.core.url_to_fs(url)
        system = fs.PyFileSystem(fs.FSSpecHandler(theirs))
    return system, base
