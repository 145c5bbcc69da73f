"""The views."""

from django.contrib.postgres.search import SearchQuery, SearchRank
from django.db import transaction
from django.db.models import Count, F, Q, QuerySet
from django.shortcuts import get_object_or_404
from rest_framework.decorators import action
from rest_framework.mixins import CreateModelMixin, ListModelMixin, RetrieveModelMixin
from rest_framework.permissions import IsAuthenticated
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.serializers import Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import GenericViewSet

from ..tutorial.texts import another_slug, slug_of, to_html, utc_now
from .models import Bookmark, Post, PostTag, Slug, Tag, User
from .serializers import (
    CommentSerializer,
    PostDetailSerializer,
    PostSerializer,
    ProfileSerializer,
    UserSerializer,
)


def is_published(prefix: str = "") -> Q:
    values = {"published_at__lte": utc_now(), "taken_down_at": None}
    return Q(**{f"{prefix}{name}": value for name, value in values.items()})


class PostViewSet(CreateModelMixin, ListModelMixin, RetrieveModelMixin, GenericViewSet):
    def get_queryset(self) -> QuerySet[Post]:
        posts = Post.objects.select_related("user").filter(is_published())
        if self.action == "retrieve":
            return posts
        posts = posts.defer("content_html")
        words = self.request.query_params.get("q")
        if words is None:
            return posts.order_by("-published_at", "-id")
        query = SearchQuery(words, config="simple")
        rank = SearchRank(F("search__vector"), query)
        return posts.filter(search__vector=query).annotate(rank=rank).order_by("-rank", "-id")

    def get_serializer_class(self) -> type[Serializer]:
        return PostDetailSerializer if self.action == "retrieve" else PostSerializer

    @transaction.atomic
    def perform_create(self, serializer: Serializer) -> None:
        values = serializer.validated_data
        slug = slug_of(values["title"])
        if Slug.objects.filter(slug=slug).exists():
            slug = another_slug(slug)
        post = serializer.save(
            user=self.request.user, slug=slug, content_html=to_html(values["content"])
        )
        Slug.objects.create(slug=slug, post=post)
        for name in post.tags:
            tag, _ = Tag.objects.get_or_create(key=name.casefold(), defaults={"name": name})
            PostTag.objects.create(
                tag=tag, post=post, published_at=post.published_at, updated_at=post.updated_at
            )

    @action(detail=True, methods=["post"])
    @transaction.atomic
    def comments(self, request: Request, pk: str) -> Response:
        serializer = CommentSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        post = get_object_or_404(Post.objects.filter(is_published()), pk=pk)
        serializer.save(post=post, user=request.user)
        Post.objects.filter(pk=pk).update(comment_count=F("comment_count") + 1)
        return Response(serializer.data, status=201)


class UserViewSet(RetrieveModelMixin, GenericViewSet):
    queryset = User.objects.all()
    serializer_class = ProfileSerializer

    def get_queryset(self) -> QuerySet[User]:
        return User.objects.annotate(post_count=Count("posts", filter=is_published("posts__")))

    @action(detail=False, permission_classes=[IsAuthenticated])
    def me(self, request: Request) -> Response:
        return Response(UserSerializer(request.user).data)


class BookmarkView(APIView):
    @transaction.atomic
    def put(self, request: Request, post_id: int) -> Response:
        post = get_object_or_404(Post.objects.filter(is_published()), pk=post_id)
        _, is_new = Bookmark.objects.get_or_create(user=request.user, post=post)
        if is_new:
            Post.objects.filter(pk=post_id).update(bookmark_count=F("bookmark_count") + 1)
        return Response(status=204)

    @transaction.atomic
    def delete(self, request: Request, post_id: int) -> Response:
        deleted, _ = Bookmark.objects.filter(user=request.user, post_id=post_id).delete()
        if deleted:
            Post.objects.filter(pk=post_id).update(bookmark_count=F("bookmark_count") - 1)
        return Response(status=204)
