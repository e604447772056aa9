"""The synthetic data of phi-4 (section 2.2 and appendix D), a writer a module; `steps` writes their corpora.

Each writer is a script for a teacher (see `synth.scripts`) and, where the truth can be planned or a rule can
do the work, a form without a model. What a row's `meta` calls its `writer` says which of the two it was.
"""
