// What happened since a stop is read anew every two seconds, as long as somebody looks. Without this script there is a link.
"use strict";
const again = document.querySelector("[data-again]");
const parts = [...document.querySelectorAll("[data-live]")];
if (again) {
	const words = document.createElement("span"), pause = document.createElement("button");
	let on = true;
	pause.type = "button";
	pause.className = "plain";
	pause.addEventListener("click", () => {
		on = !on;
		show();
	});
	const show = (text) => {
		words.textContent = text || (on ? "This is read anew every two seconds. " : "This stands still. ");
		pause.textContent = on ? "Pause" : "Go on";
	};
	again.replaceChildren(words, pause);
	show();
	const look = async () => {
		try {
			const answer = await fetch(again.dataset.again, { redirect: "manual", cache: "no-store" });
			if (answer.type === "opaqueredirect") {
				again.textContent = "You are signed out; load the page anew.";
				return;
			}
			if (!answer.ok) {
				throw new Error(answer.status);
			}
			const page = new DOMParser().parseFromString(await answer.text(), "text/html");
			for (const part of parts) {
				const now = page.getElementById(part.id);
				if (now && now.innerHTML !== part.innerHTML) {
					part.replaceChildren(...now.childNodes);
				}
			}
			show();
		} catch {
			show("This cannot be read at the moment; it is tried again. ");
		}
		setTimeout(turn, 2000);
	};
	const turn = () => {
		if (on && document.visibilityState === "visible") {
			look();
		} else {
			setTimeout(turn, 500);
		}
	};
	setTimeout(turn, 2000);
}
