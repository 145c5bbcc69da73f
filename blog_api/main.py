"""The application of the settings in force, for servers: `uvicorn blog_api.main:app`."""

from blog_api.app import create_app
from blog_api.core.settings import load_settings

app = create_app(load_settings())
