"""The blog as tutorials write it, in asynchronous and in synchronous SQLModel."""
