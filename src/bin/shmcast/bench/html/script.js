// Paper cannot be unfolded: a printer gets every table.
const folded = () => document.querySelectorAll("details:not([open])");
addEventListener("beforeprint", () => folded().forEach((one) => { one.open = true; one.dataset.printed = ""; }));
addEventListener("afterprint", () => document.querySelectorAll("[data-printed]").forEach((one) => { one.open = false; delete one.dataset.printed; }));
