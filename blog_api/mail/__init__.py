"""Mail: written with the transaction that causes it, and sent afterwards by any worker."""
