"""Which attributes a drawing may hold: ours, which mean something, and Graphviz's own, which are skipped.

All else is refused, so that a misspelt `limits` is a fault and not a graph without limits. Ours are taken
from the definitions, under the names they have in YAML.
"""

from __future__ import annotations

from headgate_graphs.model import AgentGraph, Definition, EdgeConfiguration, GraphMetadata, Plan, Task


def _fields(*models: type[Definition]) -> frozenset[str]:
    return frozenset(field.alias or name for model in models for name, field in model.model_fields.items())


KIND = "kind"
"""Attribute of a node: `task`, `plan`, or `start` for the mark from which an edge leads to the entry."""
TYPE = "type"
"""Attribute of a node, its handler type; and of an edge, normal, parallel, join or final."""
SHAPE = "shape"
"""Attribute of a node, Graphviz's own: a diamond is a plan when the node has no kind."""
METADATA = _fields(GraphMetadata) - {"id"}
"""Attributes of the graph that are its metadata; its id is the name of the digraph."""
GRAPH = METADATA | _fields(AgentGraph) - {"metadata", "kind", "entry", "tasks", "plans", "edges"}
"""Attributes of the graph."""
NODE = _fields(Task, Plan) - {"id"} | {KIND, SHAPE}
"""Attributes of nodes."""
EDGE_CONFIG = _fields(EdgeConfiguration)
"""Attributes of edges that belong to their config."""
EDGE = EDGE_CONFIG | {TYPE}
"""Attributes of edges."""
TEXT = frozenset(("apiVersion", "description", "kind", "tenant_id", "type", "version", "when"))
"""Ours whose value is text as it stands; the others hold YAML on one line, which JSON is too."""

_GRAPHVIZ = """
    _background area arrowhead arrowsize arrowtail aspect bb beautify bgcolor center charset class cluster
    clusterrank color colorscheme comment compound concentrate constraint Damping decorate defaultdist dim
    dimen dir diredgeconstraints distortion dpi edgehref edgetarget edgetooltip edgeURL epsilon esep
    fillcolor fixedsize fontcolor fontname fontnames fontpath fontsize forcelabels gradientangle group
    head_lp headclip headhref headlabel headport headtarget headtooltip headURL height href id image
    imagepath imagepos imagescale inputscale K label label_scheme labelangle labeldistance labelfloat
    labelfontcolor labelfontname labelfontsize labelhref labeljust labelloc labeltarget labeltooltip
    labelURL landscape layer layerlistsep layers layerselect layersep layout len levels levelsgap lhead
    lheight linelength lp ltail lwidth margin maxiter mclimit mindist minlen mode model mosek newrank nodesep
    nojustify normalize notranslate nslimit nslimit1 oneblock ordering orientation outputorder overlap
    overlap_scaling overlap_shrink pack packmode pad page pagedir pencolor penwidth peripheries pin pos
    quadtree quantum radius rank rankdir ranksep ratio rects regular remincross repulsiveforce resolution
    root rotate rotation samehead sametail samplepoints scale searchsize sep shape shapefile showboxes
    sides size skew smoothing sortv splines start style stylesheet tail_lp tailclip tailhref taillabel
    tailport tailtarget tailtooltip tailURL target TBbalance tooltip truecolor URL vertices viewport
    voro_margin weight width xdotversion xlabel xlp z
"""
GRAPHVIZ = frozenset(_GRAPHVIZ.split())
"""Graphviz's own names (https://graphviz.org/doc/info/attrs.html); also every name that begins with `_`."""


def is_graphviz(name: str) -> bool:
    """Whether `name` only says how something is drawn."""
    return name in GRAPHVIZ or name.startswith("_")
