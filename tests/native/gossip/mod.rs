//! The gossip engine alone, in simulation and beside upstream nodes, and participants on sockets.

mod hostile;
mod participant;
mod rumours;
mod simulation;
mod upstream;
