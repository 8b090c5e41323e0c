"""What can go wrong in a store: what may pass is tried again, what cannot pass is said at once. Callers see OSError.

OSError
├── PassingError          may pass: tried again inside this package, never seen outside it
├── GaveUpError           should have passed and did not, for as long as `Patience.total`
├── FileExistsError       the condition of a conditional request does not hold
├── FileNotFoundError     no such object, or no such bucket (NoBucketError)
├── PermissionError       this object or bucket is not for these credentials
│   └── CredentialsError  these credentials open nothing: expired, unknown, wrongly signed, or none found
└── OSError               everything else; errno ENOSPC and EDQUOT for a store that is full, ENOSYS for what it lacks
"""

from __future__ import annotations

import errno
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from pipeline.storage.names import Patience

T = TypeVar("T")

_NEW_CREDENTIALS = "Renew the credentials of the machines that work on this run, then start it again: it goes on."

_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"}
_UNKNOWN = {
    "AccountProblem",
    "AllAccessDisabled",
    "InvalidAccessKeyId",
    "InvalidClientTokenId",
    "InvalidSecurity",
    "InvalidToken",
    "NotSignedUp",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}
# botocore's own, raised before anything is sent.
_NOT_FOUND_CREDENTIALS = {
    "CredentialRetrievalError",
    "LoginError",
    "LoginTokenLoadError",
    "NoAuthTokenError",
    "NoCredentialsError",
    "PartialCredentialsError",
    "SSOError",
    "SSOTokenLoadError",
    "TokenRetrievalError",
    "UnauthorizedSSOTokenError",
}
_PASSING = {
    "BadDigest",
    "BandwidthLimitExceeded",
    "Busy",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "InternalError",
    "OperationAborted",
    "PriorRequestNotComplete",
    "RequestLimitExceeded",
    "RequestThrottled",
    "RequestTimeout",
    "ServiceUnavailable",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequestsException",
    "XAmzContentChecksumMismatch",
    "XAmzContentSHA256Mismatch",
}
_PASSING_STATUS = {408, 409, 429, 500, 502, 503, 504}
_FULL = {"InsufficientStorage", "InsufficientStorageCapacity", "StorageFull", "XMinioStorageFull"}
_OVER_QUOTA = {"QuotaExceeded", "XMinioAdminBucketQuotaExceeded"}

# A file server that was away for a moment answers with these.
_PASSING_LOCALLY = {errno.EAGAIN, errno.EINTR, errno.ESTALE, errno.ETIMEDOUT, errno.EREMOTEIO}
# Nothing can be read any more, whichever file is next: the mount is gone, or this process is at its limit.
GONE = {
    errno.EHOSTDOWN,
    errno.EHOSTUNREACH,
    errno.EMFILE,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.ENFILE,
    errno.ENODEV,
    errno.ENOTCONN,
    errno.ESHUTDOWN,
}


class PassingError(OSError):
    """May pass by itself."""


class GaveUpError(OSError):
    """A fault that mostly passes did not pass in the time that `Patience` gives it."""


class CredentialsError(PermissionError):
    """The store takes these credentials for nothing at all."""


class NoBucketError(FileNotFoundError):
    """The bucket itself is not there."""


@contextmanager
def os_errors() -> Iterator[None]:
    """Client libraries raise errors of their own for a refused or broken connection; here they are all OSError."""
    try:
        yield
    except _client_errors() as error:
        raise OSError(str(error)) from error


def _client_errors() -> tuple[type[Exception], ...]:
    # Evaluated only once something was raised: neither library is worth importing before that.
    from aiohttp import ClientError
    from botocore.exceptions import BotoCoreError

    return (BotoCoreError, ClientError)


@contextmanager
def s3_errors(place: str) -> Iterator[None]:
    """What botocore and urllib3 raise, as the tree above. place: named in the error's text."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError
    from urllib3.exceptions import HTTPError

    try:
        yield
    except ClientError as error:
        raise _answered(error, place) from error
    except (BotoCoreError, ResponseParserError, HTTPError) as error:
        raise _unanswered(error, place) from error


def _answered(error: Any, place: str) -> OSError:
    """The store answered, and the answer was an error."""
    details = error.response.get("Error", {})
    code, text = str(details.get("Code", "")), str(details.get("Message", "") or "no reason was given")
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    said = f"{place}: {text} ({code or status})"
    if code in _EXPIRED:
        return CredentialsError(f"{place}: the credentials have expired ({code}). {_NEW_CREDENTIALS}")
    if code in _UNKNOWN:
        return CredentialsError(f"{place}: the store does not accept the credentials: {text} ({code})")
    if code == "RequestTimeTooSkewed":
        return CredentialsError(f"{place}: this machine's clock differs too much from the store's ({code}); set it")
    if code == "NoSuchBucket":
        return NoBucketError(f"{place}: there is no such bucket")
    if code in _OVER_QUOTA:
        return _with_number(OSError(f"{place}: the store's quota is used up ({code})"), errno.EDQUOT)
    if code in _FULL or status == 507:
        return _with_number(OSError(f"{place}: the store is full ({code or status})"), errno.ENOSPC)
    if code == "NotImplemented" or status == 501:
        return _with_number(OSError(said), errno.ENOSYS)
    if code == "PreconditionFailed" or status == 412:
        return FileExistsError(said)
    if code in _PASSING or status in _PASSING_STATUS:
        return PassingError(said)
    if status == 404:
        return FileNotFoundError(said)
    if status == 403:
        return PermissionError(said)
    return _with_number(OSError(said), errno.EINVAL if status == 400 else errno.EIO)


def _unanswered(error: Exception, place: str) -> OSError:
    """No answer, or none that can be read."""
    name, text = type(error).__name__, f"{place}: {error}"
    if name in _NOT_FOUND_CREDENTIALS:
        return CredentialsError(f"{text}. {_NEW_CREDENTIALS}")
    if name == "SSLError" and "CERTIFICATE_VERIFY_FAILED" in text:
        return _with_number(OSError(text), errno.EPROTO)
    if name in ("ParamValidationError", "UnknownSignatureVersionError", "InvalidEndpointConfigurationError"):
        return _with_number(OSError(text), errno.EINVAL)
    return PassingError(text)


def _with_number(error: OSError, number: int) -> OSError:
    # OSError(number, text) would put "[Errno n]" before every sentence.
    error.errno = number
    return error


@contextmanager
def local_errors() -> Iterator[None]:
    """Marks what may pass on a mounted file system as such; everything else stays what the system raised."""
    try:
        yield
    except OSError as error:
        if error.errno in _PASSING_LOCALLY and not isinstance(error, PassingError):
            raise _with_number(PassingError(str(error)), error.errno) from error
        raise


def persist(patience: Patience, work: Callable[[], T], least: int = 1) -> T:
    """The answer of `work`, tried again after each PassingError. Raises GaveUpError once `patience.total` has passed, and
    `least` tries have failed."""
    draw = random.SystemRandom()  # forked processes must not pause in step
    started, tries = time.monotonic(), 0
    while True:
        try:
            return work()
        except PassingError as error:
            pause = draw.uniform(0, min(patience.longest_pause, patience.pause * 2 ** min(tries, 30)))
            tries += 1
            waited = time.monotonic() - started
            if tries >= least and waited + pause > patience.total:
                gave_up = GaveUpError(f"{error} (tried {tries} times in {waited:.0f} s)")
                raise _with_number(gave_up, error.errno or errno.EIO) from error
        time.sleep(pause)
