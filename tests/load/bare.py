"""An ASGI application that sends recorded responses: the limit that uvicorn sets."""

import json
import os
from pathlib import Path
from typing import Any

# The ASGI messages of the recorded response for each path with its query.
RESPONSES = {
    path: (
        {
            "type": "http.response.start",
            "status": 200,
            "headers": [(name.encode(), value.encode()) for name, value in response["headers"]],
        },
        {"type": "http.response.body", "body": response["body"].encode()},
    )
    for path, response in json.loads(Path(os.environ["RESPONSES"]).read_text()).items()
}


async def app(scope: Any, _receive: Any, send: Any) -> None:
    if scope["type"] == "lifespan":
        return
    query = scope["query_string"].decode()
    start, body = RESPONSES[f"{scope['path']}?{query}" if query else scope["path"]]
    await send(start)
    await send(body)
