"""How a story's page looks in the light and in the dark, and the one script it has."""

STYLE = """
:root { --completed: #2f9e6e; --failed: #d64545; --rejected: #d9822b; --held: #b08900; --aborted: #8a63d2;
  --running: #3b82c4; --wait: #b9c1cb; --cap: #c02b2b; --spent: #3b6fb6; --in-bar: #fff }
@media (prefers-color-scheme: dark) { :root { --completed: #3fae7c; --failed: #e5605d; --rejected: #e59a4c;
  --held: #cfae3a; --aborted: #a586e8; --running: #5a9fe0; --wait: #4a5462; --cap: #ff7b72;
  --spent: #6ea3ee; --in-bar: #10141a } }
.cards { display: flex; flex-wrap: wrap; gap: .7em; margin: 1em 0 }
.cards div { background: var(--card); border: 1px solid var(--line); border-radius: 8px; padding: .5em 1em;
  color: var(--soft); font-size: 12px; min-width: 6.5em }
.cards b { display: block; color: var(--ink); font-size: 18px; font-weight: 600 }
.pill { font-size: 13px; font-weight: 600; vertical-align: middle; padding: .15em .7em; border-radius: 1em;
  background: var(--running); color: var(--in-bar) }
.pill.completed { background: var(--completed) } .pill.failed { background: var(--failed) }
.pill.aborted { background: var(--aborted) } .pill.rejected { background: var(--rejected) }
.pill.paused { background: var(--held) }
.reason { border-left: 4px solid var(--cap); background: var(--card); padding: .5em .9em; margin: .5em 0;
  overflow-wrap: anywhere }
.legend { display: flex; flex-wrap: wrap; gap: 1.1em; color: var(--soft); font-size: 12px; margin: .2em 0 }
.legend i { display: inline-block; width: 14px; height: 10px; border-radius: 2px; margin-right: .45em }
.wide { overflow-x: auto } .wide svg { min-width: 860px; width: 100%; display: block; background: var(--card);
  border: 1px solid var(--line); border-radius: 8px; margin: .5em 0; box-sizing: border-box }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", sans-serif; fill: var(--ink) }
svg .tick { fill: var(--soft); font-size: 10px } svg .life-name { font-weight: 600 }
svg .in-bar { fill: var(--in-bar); font-size: 9.5px; font-weight: 600 }
svg .in-band { fill: var(--soft); font-size: 10px }
.grid { stroke: var(--line); stroke-width: 1 } .row { stroke: var(--line); stroke-width: .5 }
.band { fill: var(--shade) } .wait, i.wait { fill: var(--wait); background: var(--wait) }
.run, .life { fill: var(--running) }
.run.completed, .life.completed, i.completed { fill: var(--completed); background: var(--completed) }
.run.failed, .life.failed, i.failed { fill: var(--failed); background: var(--failed) }
.run.rejected, .life.rejected, i.rejected { fill: var(--rejected); background: var(--rejected) }
.held, .run.held-back, .life.paused, i.held-back { fill: var(--held); background: var(--held) }
.run.aborted, .life.aborted, i.aborted { fill: var(--aborted); background: var(--aborted) }
i.repeated, .run.repeated { fill: var(--wait); background: var(--wait) }
i.running { background: var(--running) }
.mark { color: var(--soft) } .mark path { stroke: currentColor; stroke-dasharray: 3 3; fill: none }
.mark circle { fill: currentColor }
.mark .mark-number { fill: var(--card); font-size: 10px; font-weight: 700 }
.mark.stop, .notes .stop b { color: var(--failed) } .mark.hold, .notes .hold b { color: var(--held) }
.mark.go, .notes .go b { color: var(--completed) } .mark.order, .notes .order b { color: var(--running) }
.mark.warn, .notes .warn b { color: var(--rejected) }
.area { fill: var(--spent); opacity: .14 } .spent { fill: none; stroke: var(--spent); stroke-width: 2 }
.cap { fill: none; stroke: var(--cap); stroke-width: 1.5; stroke-dasharray: 7 4 }
svg .cap-name { fill: var(--cap); font-size: 10.5px }
.far { font-size: 12px; margin: 0 0 .8em } .notes { padding-left: 2.2em } .notes li { margin: .45em 0;
  overflow-wrap: anywhere } .notes li:target { background: var(--shade) }
#find { font: inherit; color: inherit; background: var(--card); border: 1px solid var(--line);
  border-radius: 6px; padding: .3em .7em; width: 22em; max-width: 100% }
.events td { text-align: left; font-size: 12.5px; border-bottom: 1px solid var(--line); white-space: nowrap }
.events th { text-align: left } .events th.number { text-align: right }
.events td.number { text-align: right }
.events td.why { white-space: normal; min-width: 24em; overflow-wrap: anywhere }
.events .status { font-weight: 600 } .status.completed { color: var(--completed) }
.status.failed { color: var(--failed) } .status.rejected { color: var(--rejected) }
.status.aborted { color: var(--aborted) } .status.pending { color: var(--soft) }
.status.running { color: var(--running) } .status.paused { color: var(--held) }
"""

SCRIPT = """
const find = document.getElementById("find"), rows = [...document.querySelectorAll(".events tbody tr")];
find.addEventListener("input", () => {
  const wanted = find.value.toLowerCase();
  for (const row of rows) row.hidden = !row.textContent.toLowerCase().includes(wanted);
});
"""
