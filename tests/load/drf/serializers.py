"""The schemas."""

from rest_framework import serializers

from .models import Comment, Post, User

POST_FIELDS: tuple[str, ...] = (
    "id",
    "created_at",
    "updated_at",
    "title",
    "content",
    "slug",
    "published_at",
    "user_id",
    "user_name",
    "tags",
    "comment_count",
    "bookmark_count",
)


class PostSerializer(serializers.ModelSerializer):
    content = serializers.CharField(max_length=500_000, trim_whitespace=False)
    user_name = serializers.CharField(source="user.name", read_only=True)
    tags = serializers.ListField(child=serializers.CharField(), max_length=10, default=list)

    class Meta:
        model = Post
        fields = POST_FIELDS
        read_only_fields = ("created_at", "updated_at", "slug", "comment_count", "bookmark_count")


class PostDetailSerializer(PostSerializer):
    class Meta(PostSerializer.Meta):
        fields = (*POST_FIELDS, "content_html")


class CommentSerializer(serializers.ModelSerializer):
    user_name = serializers.CharField(source="user.name", read_only=True)

    class Meta:
        model = Comment
        fields = ("id", "created_at", "updated_at", "content", "post_id", "user_id", "user_name")
        read_only_fields = ("created_at", "updated_at")


class ProfileSerializer(serializers.ModelSerializer):
    post_count = serializers.IntegerField(read_only=True)

    class Meta:
        model = User
        fields = ("id", "username", "name", "avatar_url", "bio", "post_count", "created_at")


class UserSerializer(serializers.ModelSerializer):
    class Meta:
        model = User
        fields = ("id", "created_at", "updated_at", "name", "email", "is_active", "is_admin")
