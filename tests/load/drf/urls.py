"""The routes."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from .views import BookmarkView, PostViewSet, UserViewSet

router = SimpleRouter(trailing_slash=False)
router.register("posts", PostViewSet, "post")
router.register("users", UserViewSet, "user")

urlpatterns = [
    path("users/me/bookmarks/<int:post_id>", BookmarkView.as_view()),
    *router.urls,
]
