"""What goes wrong with a bucket, as a sentence that says what to change: what may pass is tried again, the rest stops.

Messages name codes and settings, never what a server wrote: that may hold a key's id.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager

from theta_ml.settings import SettingsError

_KEYS = "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN and AWS_REGION"
_NO_BUCKET = {"NoSuchBucket", "InvalidBucketName", "PermanentRedirect", "301"}
_NO_ENTRY = {
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired",
    "AuthorizationHeaderMalformed", "InvalidSecurity", "UnrecognizedClientException", "RequestTimeTooSkewed",
}  # fmt: skip
_NOT_ALLOWED = {"AccessDenied", "AllAccessDisabled", "AccountProblem", "MethodNotAllowed", "Forbidden", "403", "405"}
_PASSING = {
    "InternalError", "ServiceUnavailable", "SlowDown", "RequestTimeout", "OperationAborted", "BadGateway",
    "GatewayTimeout", "Throttling", "ThrottlingException", "RequestLimitExceeded", "ConditionalRequestConflict", "409",
    "500", "502", "503", "504",
}  # fmt: skip
_PASSING_ERRNO = {errno.EREMOTEIO, errno.EBUSY, errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.ESTALE}


@contextmanager
def explained(url: str, doing: str, setting: str = "THETA_ARTIFACTS_URL") -> Iterator[None]:
    """`doing` ("read from", "write to", "remove from") at `url`, which `setting` names.

    Raises StageRetry for what may pass and SettingsError for what will not; what it does not know passes through, and
    so does FileNotFoundError of a single file.
    """
    try:
        yield
    except Exception as error:
        known = explanation(error, url, doing, setting)
        if known is None:
            raise
        raise known from error


def explanation(error: Exception, url: str, doing: str, setting: str) -> Exception | None:
    """StageRetry or SettingsError; None for what is no fault of a bucket's."""
    from theta_ml.stage import StageRetry  # it stands on this room

    if isinstance(error, SettingsError | StageRetry):
        return None
    code = code_of(error)
    names = {kind.__name__ for kind in type(error).__mro__}
    if code in _NO_BUCKET:
        return SettingsError(
            f"there is no such bucket as {url} names ({code}): make it, or set {setting}; for a server other than "
            "Amazon's also AWS_ENDPOINT_URL"
        )
    if code in _NO_ENTRY:
        return SettingsError(f"{_server()} does not accept the credentials for {url} ({code}): check {_KEYS}")
    if names & {"NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"}:
        return SettingsError(f"there are no credentials for {url} ({type(error).__name__}): set {_KEYS}")
    if code in _NOT_ALLOWED or isinstance(error, PermissionError):
        return SettingsError(
            f"not allowed to {doing} {url} ({code or type(error).__name__}): give these credentials s3:ListBucket and "
            "s3:ListBucketMultipartUploads on the bucket, s3:GetObject, s3:PutObject, s3:DeleteObject, "
            "s3:ListMultipartUploadParts and s3:AbortMultipartUpload on what it holds, or set "
            f"{setting} to a place that may be used"
            if "://" in url and not url.startswith("file:")
            else f"not allowed to {doing} {url}: change its owner or mode, or set {setting}"
        )
    if names & {"ParamValidationError", "InvalidEndpointConfigurationError"}:
        return SettingsError(f"{setting} or AWS_ENDPOINT_URL makes no sense ({type(error).__name__}): it is {url}")
    if code in _PASSING or _is_passing(error, names):
        return StageRetry(
            f"{_server()} did not answer for {url} ({code or type(error).__name__}) and was asked several times; if it "
            "stays away, check AWS_ENDPOINT_URL"
        )
    return None


def _is_passing(error: Exception, names: set[str]) -> bool:
    if names & {"HTTPClientError", "IncompleteReadError", "ResponseParserError", "ClientPayloadError"}:
        return True
    if "BotoCoreError" in names and "ConnectionError" in names:
        return True
    return isinstance(error, TimeoutError | ConnectionError) or (
        isinstance(error, OSError) and error.errno in _PASSING_ERRNO
    )


def code_of(error: BaseException) -> str:
    """The server's, of the error or of what it was made from; empty where there is none."""
    seen: BaseException | None = error
    while seen is not None:
        response = getattr(seen, "response", None)
        if isinstance(response, dict):
            return str(response.get("Error", {}).get("Code", ""))
        seen = seen.__cause__ or seen.__context__
    return ""


def _server() -> str:
    """Whom the client asks."""
    from urllib.parse import urlsplit

    host = urlsplit(os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL") or "").netloc
    return f"the server {host.rpartition('@')[2]}" if host else "the object store"
