"""Pages by number, with the names of the service."""

from typing import Any

from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response


class PostPagination(PageNumberPagination):
    page_size_query_param = "size"
    max_page_size = 100

    def get_paginated_response(self, data: Any) -> Response:
        return Response({"total_count": self.page.paginator.count, "results": data})
