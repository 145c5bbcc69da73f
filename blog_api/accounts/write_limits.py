"""Rate limits of writing per account, as dependencies of routes.

The limits are rows of the table in `rate_limits.py`. A request counts before its body is validated,
whether it succeeds or not; one without a valid token does not count.
"""

from typing import Annotated

from fastapi import Depends, Request

from blog_api.accounts.auth import AdminAuth, Auth, CanWrite, CanWriteAccount, CanWritePosts
from blog_api.accounts.rate_limits import (
    ACCOUNTS,
    COMMENTS,
    FOLLOWS_AND_BOOKMARKS,
    POSTS,
    PREVIEWS,
    PROFILE_CHANGES,
    TOKENS,
    UPLOADS,
    RateLimiter,
    Rule,
)


async def get_rate_limiter(request: Request) -> RateLimiter:
    limiter: RateLimiter = request.app.state.rate_limiter
    return limiter


RateLimiterDep = Annotated[RateLimiter, Depends(get_rate_limiter)]


async def count_write(limiter: RateLimiter, rule: Rule, auth: Auth) -> None:
    """Count a request of the user. Raises TooManyRequests."""
    await limiter.record_hits(limiter.make_limits([rule], account=str(auth.user.id)))


async def limit_posts(auth: CanWritePosts, limiter: RateLimiterDep) -> None:
    await count_write(limiter, POSTS, auth)


async def limit_comments(auth: CanWrite, limiter: RateLimiterDep) -> None:
    await count_write(limiter, COMMENTS, auth)


async def limit_follows_and_bookmarks(auth: CanWriteAccount, limiter: RateLimiterDep) -> None:
    await count_write(limiter, FOLLOWS_AND_BOOKMARKS, auth)


async def limit_previews(auth: CanWritePosts, limiter: RateLimiterDep) -> None:
    await count_write(limiter, PREVIEWS, auth)


async def limit_uploads(auth: CanWritePosts, limiter: RateLimiterDep) -> None:
    await count_write(limiter, UPLOADS, auth)


async def limit_profile_changes(auth: CanWriteAccount, limiter: RateLimiterDep) -> None:
    await count_write(limiter, PROFILE_CHANGES, auth)


async def limit_tokens(auth: CanWriteAccount, limiter: RateLimiterDep) -> None:
    await count_write(limiter, TOKENS, auth)


async def limit_accounts(auth: AdminAuth, limiter: RateLimiterDep) -> None:
    await count_write(limiter, ACCOUNTS, auth)
