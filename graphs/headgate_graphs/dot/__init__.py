"""Graphs in DOT, the language of Graphviz: written for pictures and tools, and read back as equal graphs.

`syntax` knows the language, `text` how values are quoted, `attributes` which names belong to whom, `reading`
what a drawing means as a definition, `writing` how a graph is drawn.
"""
