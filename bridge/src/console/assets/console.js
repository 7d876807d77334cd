// What makes the console quicker. Every page works without it.
"use strict";
(() => {
  const zone = Intl.DateTimeFormat(document.documentElement.lang, { dateStyle: "medium", timeStyle: "medium" });

  // Moments in the visitor's own time zone; the one that the server wrote stays as the title.
  const localise = (root) => {
    for (const time of root.querySelectorAll("time[datetime]")) {
      const at = new Date(time.dateTime);
      if (time.title || Number.isNaN(at.getTime())) continue;
      time.title = time.textContent;
      time.textContent = zone.format(at);
    }
  };

  // Parts that are renewed while somebody looks. What has the focus or is open is left alone.
  const isBusy = (part) => part.contains(document.activeElement) || part.querySelector("details.confirm[open]");
  const renew = async (part) => {
    const wait = Number(part.dataset.every) * 1000;
    let next = wait;
    try {
      if (!document.hidden && !isBusy(part)) {
        const answer = await fetch(part.dataset.live, { headers: { accept: "text/html" }, redirect: "error" });
        if (!answer.ok) throw new Error(String(answer.status));
        const html = await answer.text();
        if (html !== part.lastHtml && !isBusy(part)) {
          part.lastHtml = html;
          part.innerHTML = html; // escaped by the server, and no script in it would run
          localise(part);
        }
        part.removeAttribute("data-stale");
      }
    } catch {
      part.dataset.stale = "true";
      next = wait * 5;
    }
    setTimeout(renew, next, part);
  };

  // The count of an audience, while its form is filled.
  const count = (form) => {
    const place = form.querySelector("#count");
    let timer = 0;
    let asked = 0;
    const ask = async () => {
      const number = ++asked;
      try {
        const answer = await fetch(form.dataset.count, { method: "POST", body: new URLSearchParams(new FormData(form)), redirect: "error" });
        const html = await answer.text();
        if (number === asked && answer.ok) place.innerHTML = html; // an older answer that comes late is dropped
      } catch {
        // The next change asks again.
      }
    };
    const later = (event) => {
      const isAudience = ["kind", "expr", "tags", "users", "devices"].includes(event.target.name);
      clearTimeout(timer);
      timer = setTimeout(ask, isAudience ? 300 : 1000);
    };
    form.addEventListener("input", later);
    if (["expr", "tags", "users", "devices"].some((name) => form.elements[name]?.value) || form.elements.kind?.value === "all") ask();
  };

  // Only the fields of what is chosen: the audience's kind, and when it goes out.
  const choose = (form) => {
    const show = () => {
      const holds = (test) => {
        const [name, value] = test.includes("=") ? test.split("=") : ["kind", test];
        return form.elements[name].value === value;
      };
      for (const part of form.querySelectorAll("[data-when]")) part.hidden = !part.dataset.when.split(" ").some(holds);
    };
    form.addEventListener("change", show);
    show();
  };

  // The preview says what the fields say.
  const mirror = (form) => {
    for (const place of form.querySelectorAll("[data-mirror]")) {
      const field = form.elements[place.dataset.mirror];
      const show = () => {
        place.textContent = field.value || place.dataset.empty;
      };
      field.addEventListener("input", show);
      show();
    }
  };

  localise(document);
  for (const part of document.querySelectorAll("[data-live]")) setTimeout(renew, Number(part.dataset.every) * 1000, part);
  for (const form of document.querySelectorAll("form[data-count]")) {
    choose(form);
    mirror(form);
    count(form);
  }
  for (const element of document.querySelectorAll("[data-hide]")) element.hidden = true;
  for (const select of document.querySelectorAll("select[data-submit]")) {
    select.addEventListener("change", () => select.form.requestSubmit());
  }
  // On a narrow screen the menu begins closed.
  if (matchMedia("(max-width: 60rem)").matches) document.querySelector("details.menu")?.removeAttribute("open");

  document.addEventListener("click", (event) => {
    const close = event.target.closest("[data-close]");
    if (close) {
      const box = close.closest("details");
      box.open = false;
      box.querySelector("summary").focus();
    }
    const copy = event.target.closest("[data-copy]");
    if (copy) {
      navigator.clipboard?.writeText(document.getElementById(copy.dataset.copy).textContent).then(() => {
        copy.textContent = copy.dataset.copied;
      });
    }
    for (const open of document.querySelectorAll("details.confirm[open], details.account[open], details.app-choice[open]")) {
      if (!open.contains(event.target)) open.open = false;
    }
  });
  document.addEventListener("keydown", (event) => {
    if (event.key !== "Escape") return;
    for (const open of document.querySelectorAll("details.confirm[open], details.account[open], details.app-choice[open]")) {
      open.open = false;
      open.querySelector("summary").focus();
    }
  });
  // A form that is on its way is not sent again.
  document.addEventListener("submit", (event) => {
    if (event.defaultPrevented || event.target.method !== "post") return;
    event.submitter?.setAttribute("aria-busy", "true");
    if (event.target.dataset.sent) event.preventDefault();
    event.target.dataset.sent = "true";
    setTimeout(() => delete event.target.dataset.sent, 3000);
  });
  document.querySelector("#register") && location.hash === "#register" && (document.querySelector("#register").open = true);
})();
