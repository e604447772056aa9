"""An OpenAI-compatible server over the project's engine. `hornbook.serve.api.app.create_api` is the app."""
