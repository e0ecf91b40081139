"""Prose that GPTQ sees while it rounds: forty paragraphs of everyday English, written for this study.

No person, place, date, work or quantity is named in it, so that nothing the probes ask about can be learnt or favoured
here. Paragraphs are separated by an empty line; their order matters, because a recipe takes the first ones.
"""

TEXT = """
The baker opens the door long before sunrise and sweeps yesterday's flour from the floor while the ovens slowly warm. By
the time the first customers arrive, the shelves are full and the windows have steamed over. Some people buy a single
roll and eat it on the way to work; others fill a basket and stay to talk about the weather. Nobody ever seems to leave
in a hurry, however late they are.

When a bicycle chain starts to skip, the cause is usually wear rather than dirt. A new chain is cheap, and fitting one
takes a few minutes with the right tool, but riders often wait until the sprockets are damaged too. If you hear a faint
click on every turn of the pedals, lift the chain away from the front ring with a finger. If daylight shows under it,
the links have stretched and should be replaced soon.

Why do so many meetings end without a decision? Often the question was never put clearly, so everyone left with a
different idea of what had been agreed. A short note sent in advance helps more than a long talk afterwards: it says
what must be decided, which options remain, and what each would cost. People who have read it argue less, listen more,
and are much less likely to bring the matter up again a week later.

The path climbs through thin woodland and comes out on a bare ridge where the wind never quite stops. From there you can
see the whole valley, with its patchwork of fields and the river winding slowly between them. Sheep have worn narrow
tracks across the slope, and walkers follow them without thinking. In wet weather the stones are slippery, and it is
wiser to go back the way you came than to risk the steep descent.

To make a simple soup, soften a chopped onion in a little butter and add whatever vegetables are at hand. Cover them
with water, not too much, and let the pot simmer until a fork slides easily into the largest piece. Season it only at
the end, because the liquid grows saltier as it shrinks. A spoonful of cream makes it richer, and a squeeze of lemon
makes it brighter; most cooks decide by tasting.

She had kept every letter in a wooden box under the stairs, tied in bundles with kitchen string. The earliest were
written in pencil and had faded so badly that she had to hold them up to the lamp. He had described the food, the
boredom, the jokes that went round, and hardly ever the things that must have frightened him. Reading them again, she
wondered whether he had wanted to spare her or had simply run out of words.

A good index is harder to write than it looks. The indexer has to imagine what a stranger will want to find, and under
which word that stranger will look first. Too many entries hide the useful ones, and too few send the reader back to
turning pages. Computers can list every place where a term occurs, but they cannot yet judge which of those places
really say something about it, and that judgement is the whole craft.

After the storm the beach was covered with weed and broken branches, and the children ran ahead to see what else the sea
had brought. They found a length of blue rope, a bottle with no message in it, and one shoe. Their father said that the
other shoe was probably on its way to some quite different shore. For the rest of the afternoon they made up stories
about the person who had lost them both.

If the engine turns but refuses to start, check the simple things first. Is there fuel in the tank, and is it fresh? Is
the spark plug dry, or is it black with soot? Small machines that have stood all winter often fail because the old fuel
has left a sticky film behind. Clean the filter, drain the bowl, and try again before you take anything else apart. Most
repairs end at this point, and the rest can wait for someone with more patience.

The town council has announced that the old swimming pool will close at the end of the summer. Repairs would cost more
than a new building, a spokesperson said, and no money has been set aside for either. Parents at the school gate were
disappointed but hardly surprised. One of them pointed out that lessons had been cancelled so often that her daughter
had learnt to swim in the lake instead, and had come to prefer it.

Learning an instrument as an adult is mostly a matter of accepting slow progress. Children practise because they are
told to; grown people practise because they choose to, and they give up for the same reason. Teachers recommend a little
every day rather than a lot at the weekend. It also helps to play with others as early as possible, since nobody wants
to be the one who stops in the middle of a bar.

Water that drips from a tap at night seems far louder than the same drip by day. The sound has not changed, of course,
but everything around it has become quiet, and a listener with nothing else to do begins to wait for the next drop. An
old remedy is to hang a thread from the spout so that the water runs down it without a sound. A new washer costs almost
nothing and lasts for years.

Dear neighbour, I am sorry about the noise last weekend. We had promised to finish before dark, but the wall turned out
to be in a worse state than we thought, and the builders could only stay for one more day. The dusty part of the work is
over now, and what remains should not disturb anybody. If you have found dust on your plants or your washing, please let
me know, and I will gladly put it right.

Most of what we call talent looks, from close by, like long attention. The carpenter who cuts a joint that needs no glue
has cut hundreds that did. The gardener who knows when to water has watched many plants wilt and recover. It is tempting
to believe that they were born with a gift, because then we need not ask how we have spent our own time. They themselves
tend to talk about mistakes.

The program reads a list of measurements, removes those that are plainly wrong, and prints a summary of the rest. It
does not guess what a missing value might have been; it counts the gaps and says so. Users sometimes ask for a switch
that fills them in, and the authors have always refused. A number that was never measured, they say, looks exactly like
one that was, and sooner or later somebody will rely on it.

Every spring the same pair of birds comes back to the ledge above the kitchen window. They argue for a week about the
best corner, bring straw that is much too long for it, and begin again. By early summer there are three or four open
mouths over the edge, and the noise starts at dawn. We keep the window shut until the young have flown, and every year
we say that we will put up a board, and then we do not.

A map is always a compromise. It leaves out nearly everything, and what it keeps it must bend, shrink or exaggerate. A
road drawn to scale would be too thin to see; a coast drawn in full detail would be a tangle of ink. The person who
draws it decides what matters to the person who will hold it, and the two have usually never met. That it works at all
is a small wonder of trust.

The shop on the corner sells umbrellas, repairs watches, and cuts keys while you wait. Nobody can explain how these
three trades came together, not even the owner, who took over from an uncle and changed nothing. On rainy days there is
a queue, and the watches have to wait. He says that he would rather mend than sell, because a thing that has been mended
comes with a story, and a new one only comes with a receipt.

Before you paint a room, spend a whole evening looking at it. Notice where the light falls, which corners stay dull, and
what you would see first from the door. Paint that looks warm in the tin may turn grey on a wall that never gets the
sun. Buy the smallest pot you can, cover a piece of card with it, and move the card about for a few days. It is a
tedious method, but it is quicker than painting twice.

He had meant to stay for one night and stayed for most of the winter. There was always another shelf to put up or a roof
to clear of snow, and in the evenings they played cards for matches and told each other the same stories. When the roads
opened he packed his bag, shook hands all round, and walked down to the bus. At the bend he turned to wave, but they had
already gone inside.

Statistics cannot tell you what is true, only how surprised you ought to be. If a result could easily have come about by
chance, there is no reason to change your mind; if it could hardly have done so, there is. Trouble begins when people
look at many results and report the most surprising one, as if it had been the only question they asked. Writing the
question down beforehand is dull, honest, and remarkably rare.

The train was so full that we stood in the corridor with our coats on. A woman shared out apples from a paper bag, and a
boy with a drum had to hold it over his head at every station. After an hour people began to talk, first about the delay
and then about everything else. When seats finally came free, nobody wanted to be the first to sit down, and we stood
for the rest of the way out of politeness.

Bread dough tells you when it is ready, if you know how to ask. Press it gently with a floured finger. If the hollow
springs back at once, it needs more time; if it stays, the dough has risen enough, and if the whole loaf sighs and sinks
you have waited too long. The clock on the wall is a poor guide, because a cold kitchen can double the time and a warm
one can halve it.

Moving house teaches you how much you own and how little of it you miss. For weeks the boxes stand along the wall, each
with a word written on its side that made sense at the time. You find the kettle, the towels and the lamp, and for a
while that is enough. Months later someone opens the last box, looks at what is in it, and carries it straight to the
charity shop without telling anybody.

The committee received more applications than it had expected and could support only a few of them. Each was read by two
people who did not know each other's opinion, and where they disagreed a third was asked. We know that this is a slow
process and that a refusal is discouraging after so much work. The comments of the readers are enclosed. We hope that
they will be useful, and we would be glad to hear from you again.

In the early morning the harbour smells of diesel, rope and wet wood. Boats come in with their lights still on, and the
catch is sorted on the quay by people who hardly need to look at their hands. Gulls wait on every post. By the time the
cafes open, the stones have been washed down and there is nothing left to show for it but a few scales, shining like
coins between the cobbles.

Good tools do not make a good craftsman, but bad ones can spoil the best. A blunt chisel slips where a sharp one cuts,
and a saw that wanders cannot be steered by skill alone. It is worth buying fewer things and keeping them in order. Wipe
them when you have finished, hang them where you can see them, and lend them only to people who will do the same. A
neglected plane is no bargain at any price.

The doctor asked whether the pain came and went or was always there. It was hard to say, because one does not notice an
absence. He suggested keeping a diary for a fortnight: a word in the morning, a word at night, and anything unusual in
between. When they looked at it together the pattern was so plain that both of them laughed. It was the chair, and a new
one put an end to the whole affair.

Clouds that look soft from the ground are anything but soft to fly through. The air inside them rises and sinks in
columns, and a small aircraft is lifted and dropped like a cork. Pilots learn to read their shapes from far away and to
go round the tall ones. Passengers, who see only white outside the window, feel the bumps and imagine the worst. A calm
voice from the front helps more than any explanation.

There is an art to giving directions. Start from something that cannot be missed, mention only the turns where a choice
has to be made, and say how the traveller will know that he has gone too far. Most people do the opposite: they describe
every house on the way and forget the one fork in the road. A sketch on the back of an envelope, however crude, is
usually worth more than any number of kind words.

Our grandmother never measured anything. She used a cup without a handle for flour, the palm of her hand for salt, and
for the oven she counted under her breath with the door open. When we asked her to write the recipe down she laughed and
said that it would only be wrong. We have tried it many times since, with scales and a thermometer, and it is always
very nearly the same, and never quite.

Software grows in the way that gardens do: what nobody tends gets out of hand. A function that was written for one
purpose is borrowed for another, then bent a little, then copied. After some years no one dares to remove it, because no
one knows what still depends on it. Tests help, since they remember what people forget. So does the habit of deleting
something small every week and seeing whether anybody complains.

The museum keeps most of its collection in a cellar that visitors never see. Each object lies in its own tray with a
number and a short description, and some of the descriptions are older than the building. Now and then a researcher asks
for a tray that has not been opened for a lifetime. Usually the label is right. Sometimes it turns out that the most
remarkable thing in the house has been called a spoon all along.

Nothing settles an argument about colour, because nobody can borrow another person's eyes. We agree on the names of
things that we learnt to point at together, and we suppose that the rest agrees as well. A painter will tell you that a
shadow on snow is blue, and once you have been told you cannot stop seeing it. Before that it was simply a shadow.
Perhaps more of the world than we think is waiting for somebody to mention it.

They planted the hedge as a row of twigs, so thin that visitors asked whether the fence was finished. For two summers
nothing seemed to happen. In the third it closed, all at once, and birds moved in before the leaves were fully out. Now
it has to be cut twice a year with a ladder, and the neighbours complain of the shade. The twigs that were left over
were thrown behind the shed, where they have grown into trees.

You do not need a reason to change your mind, but it is polite to have one. People forgive an error more readily than a
silence, and they will usually accept that the facts were not known at the time. What they dislike is being told that
nothing has changed. Say what you thought, what you have learnt, and what you think now. It takes three sentences and
saves a great deal of explaining later.

Ice forms first at the edges of a pond, where the water is shallow and still. For days there is only a thin clear rim
that breaks at a touch, and then one night it reaches the middle. Children throw pebbles across it and listen to the
strange rising note that each one makes. Long before it is safe to walk on, somebody's dog has tried. The wise owner
brings a long stick, a dry towel and a great deal of patience.

The night shift at the bakery, the hospital and the power station have more in common than they know. They eat breakfast
when others have supper, they buy their bread on the way home, and they draw the curtains against the best hours of the
day. They speak of the quiet as if it belonged to them. Most say that they would change back if they could, and when the
chance comes most of them stay.

A translation can be faithful to the words or to the reader, and seldom to both. A joke that depends on a sound must be
replaced by a different joke, and a dish that nobody has heard of must be explained or swapped for another. Critics
count what has been lost, since that is easy to see. What has been gained is harder to measure: a whole shelf of voices
that would otherwise have remained a closed book.

When the last guests had gone they left the dishes and sat on the steps outside. It was still warm, and someone farther
down the street was playing the same few bars on a piano, over and over, with the same mistake. They talked about who
had come and who had not, about the cake, and about nothing in particular. Then the music stopped in the right place,
and from several gardens at once there was a little applause.
"""
