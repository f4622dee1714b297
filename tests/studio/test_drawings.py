import math
from xml.etree import ElementTree

from quoth.studio.drawings import curves_svg, graph_dot, graph_svg, matrix_svg

SVG = "{http://www.w3.org/2000/svg}"


def test_curves_are_drawn_where_their_values_are():
    drawing = ElementTree.fromstring(
        curves_svg("A & B", "x", "y", [1, 2, 3], {"a<b": [0, 1, 2], "c": [2, math.nan, 0]})
    )
    up, down = drawing.findall(f"{SVG}polyline")
    places = [tuple(map(float, pair.split(","))) for pair in up.get("points").split()]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted((y for _, y in places), reverse=True)
    assert len(down.get("points").split()) == 2
    assert {"A & B", "a<b", "c"} <= {text.text for text in drawing.iter(f"{SVG}text")}


def test_a_matrix_is_darker_where_it_is_larger():
    drawing = ElementTree.fromstring(matrix_svg("m", [[1.0, -0.5], [0.0, -math.inf]], ["'a'", "'b'"], ["x", "y"]))
    _, *squares = drawing.findall(f"{SVG}rect")
    assert [float(square.get("fill-opacity")) for square in squares] == [1, 0.5, 0, 0]
    assert squares[0].get("fill") != squares[1].get("fill")
    assert {"'a'", "y", "1.00", "-0.50", "−∞"} <= {text.text for text in drawing.iter(f"{SVG}text")}


def test_a_graph_has_an_arc_for_each_edge():
    edges = [(0, 0, 1.0), (0, 1, 0.25), (1, 1, 0.75)]
    drawing = ElementTree.fromstring(graph_svg("who", ["0 'a'", "1 '<'"], edges))
    paths = drawing.findall(f"{SVG}path")
    assert len(paths) == 3 and len(drawing.findall(f"{SVG}circle")) == 2
    widths = [float(path.get("stroke-width")) for path in paths]
    assert widths[1] < widths[2] < widths[0]
    (head,) = drawing.findall(f"{SVG}polygon")  # A loop has none.
    tip = head.get("points").split()[0].split(",")
    assert [float(number) for number in paths[1].get("d").split()[-2:]] == [float(number) for number in tip]
    assert paths[1].find(f"{SVG}title").text == "1 '<' hears 0.25 from 0 'a'"


def test_dot_quotes_its_labels():
    dot = graph_dot("who", ['0 "a"', "1 \\n"], [(0, 1, 0.5)])
    assert dot.splitlines()[2:5] == [
        '  0 [label="0 \\"a\\""];',
        '  1 [label="1 \\\\n"];',
        '  0 -> 1 [label="0.50", penwidth=3.90];',
    ]
