"""The road from a recipe to bundles: which steps there are, what each depends on, and in which order they run.

Every module here holds the steps of one stretch. A step's inputs are digests of what came before, so a killed build
continues at the first unfinished step and a changed setting redoes only what depends on it. What a step computes is
written in the packages above; the heavy ones are imported inside the steps, so that a build whose steps are all
stored answers without them.
"""
