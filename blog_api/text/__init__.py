"""Markdown, sanitizer, renderer processes, tokenizer and snippets."""
