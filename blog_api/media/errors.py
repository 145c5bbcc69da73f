"""Problems of uploaded pictures."""

from types import MappingProxyType

from starlette import status as codes

from blog_api.core.errors import Conflict, Forbidden, NotFound, Problem, ServiceUnavailable


class MediaNotConfigured(ServiceUnavailable):
    """The operator has not set `BLOG_MEDIA_URL`."""

    detail = "This service stores no pictures"


class MediaNotFound(NotFound):
    detail = "Picture not found"


class UnsupportedPicture(Problem):
    """The body is no complete JPEG, PNG, GIF, WebP or AVIF."""

    status = codes.HTTP_415_UNSUPPORTED_MEDIA_TYPE
    detail = (
        "Send a JPEG, PNG, GIF, WebP or AVIF picture, as the field `file` of a multipart form or "
        "as the body, with its media type"
    )


class MediaBlocked(Forbidden):
    """An administrator deleted this picture."""

    detail = "An administrator removed this picture; it cannot be uploaded again"


class MediaQuotaExceeded(Conflict):
    """The user's pictures take as many bytes as allowed; delete one."""

    detail = "There is no room for this picture; delete others to upload it"


class RangeNotSatisfiable(Problem):
    """The range begins after the end of the file."""

    status = codes.HTTP_416_RANGE_NOT_SATISFIABLE
    detail = "The file is shorter than the start of this range"

    def __init__(self, size: int) -> None:
        self.headers = MappingProxyType({"Content-Range": f"bytes */{size}"})
