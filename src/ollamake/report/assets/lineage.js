// The lineage of a model as a graph: dagre says where its nodes are, each is a link to its facts on the page.
"use strict";
(() => {
  const place = document.getElementById("graph");
  const { nodes, edges } = JSON.parse(document.getElementById("graph-data").textContent);
  const SVG = "http://www.w3.org/2000/svg";
  const make = (name, attributes, ...children) => {
    const made = document.createElementNS(SVG, name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  };
  const HEIGHT = 48;
  const MOST = 26; // characters of a title
  const cut = (text) => { const signs = [...text]; return signs.length > MOST ? `${signs.slice(0, MOST - 1).join("")}…` : text; };
  const measure = document.createElement("canvas").getContext("2d");
  const width = (text, font) => { measure.font = font; return measure.measureText(text).width; };
  const family = getComputedStyle(document.body).fontFamily;
  const wide = (node) => Math.ceil(Math.max(96, 30 + Math.max(width(cut(node.title), `500 13px ${family}`), width(words(node), `11px ${family}`))));
  const isNamed = (node) => node.title !== node.kind;
  const words = (node) => (node.stale ? `▲ ${isNamed(node) ? `${node.kind}, ` : ""}stale` : isNamed(node) ? node.kind : "");

  const draw = () => {
    const room = place.parentElement.clientWidth;
    const graph = new dagre.graphlib.Graph();
    graph.setGraph({ rankdir: room < 640 ? "TB" : "LR", nodesep: 18, ranksep: room < 640 ? 34 : 46, marginx: 4, marginy: 4 });
    graph.setDefaultEdgeLabel(() => ({}));
    for (const node of nodes) graph.setNode(node.id, { width: wide(node), height: HEIGHT });
    for (const [from, to] of edges) graph.setEdge(from, to);
    dagre.layout(graph);
    const { width: w, height: h } = graph.graph();
    const svg = make("svg", { width: Math.ceil(w), height: Math.ceil(h), viewBox: `0 0 ${Math.ceil(w)} ${Math.ceil(h)}`, role: "group", "aria-label": "Lineage" });
    svg.append(make("defs", {}, make("marker", { id: "tip", viewBox: "0 0 8 8", refX: 7, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto" }, make("path", { d: "M0 0L8 4L0 8z", class: "tip" }))));
    const stale = new Set(nodes.filter((node) => node.stale).map((node) => node.id));
    for (const edge of graph.edges()) {
      const points = graph.edge(edge).points;
      const last = points[points.length - 1];
      let path = `M${points[0].x} ${points[0].y}`;
      for (let i = 1; i < points.length - 1; i += 1) { // curves through the middles of what dagre gives
        const to = i === points.length - 2 ? last : { x: (points[i].x + points[i + 1].x) / 2, y: (points[i].y + points[i + 1].y) / 2 };
        path += `Q${points[i].x} ${points[i].y} ${to.x} ${to.y}`;
      }
      if (points.length < 3) path += `L${last.x} ${last.y}`;
      svg.append(make("path", { d: path, class: stale.has(edge.v) ? "edge is-stale" : "edge", "marker-end": "url(#tip)", "aria-hidden": "true" }));
    }
    for (const node of nodes) {
      const { x, y, width: across } = graph.node(node.id);
      const left = x - across / 2;
      const top = y - HEIGHT / 2;
      const kind = make("text", { x: left + 12, y: top + 18, class: "kind" }, words(node));
      const title = make("text", { x: left + 12, y: top + (words(node) ? 36 : 29) }, cut(node.title));
      const box = make("rect", { x: left, y: top, width: across, height: HEIGHT, rx: 7 });
      const name = isNamed(node) ? `${node.kind} ${node.title}` : node.title;
      const label = node.stale || node.kind !== "base" ? `${name}, ${node.stale ? "stale" : "fresh"}` : name; // no step makes a base
      const link = make("a", { href: `#${node.id}`, "aria-label": label }, make("title", {}, name), box, kind, title);
      if (node.stale) link.setAttribute("class", "is-stale");
      link.addEventListener("click", () => setTimeout(() => document.getElementById(node.id).focus()));
      svg.append(link);
    }
    place.replaceChildren(svg);
  };
  place.hidden = false;
  document.getElementById("graph-key").hidden = false;
  draw();
  let room = place.parentElement.clientWidth;
  new ResizeObserver(() => {
    if ((room < 640) !== (place.parentElement.clientWidth < 640)) { room = place.parentElement.clientWidth; draw(); }
  }).observe(place.parentElement);
})();
