"""Prompts of words that are found by search, and what a trained prompt says in words. All of it needs torch.

Every part is imported by its own name, when it is asked for:

    nearest      the words that are nearest to a trained prompt's vectors
    autoprompt   trigger words, by gradients (Shin et al. 2020)
    labelwords   the words that stand for labels, by a classifier (Shin et al. 2020, section 2.3)
    pet          several patterns as one ensemble, and soft labels (Schick & Schütze 2020)
    lmbff        the words that stand for labels, by what the model says, and demonstrations (Gao et al. 2020)
    generated    templates that an encoder-decoder writes (Gao et al. 2020, section 5.2)
    scoring      what all of them ask a model
    vocabulary   which tokens are words
"""
