"""LanguageModel and its kinds; the call store, the ledger, the HTTP client."""
