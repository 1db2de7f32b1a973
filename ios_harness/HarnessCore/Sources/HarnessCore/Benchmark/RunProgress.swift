import Foundation

/// <run_id>.progress.json: how far a run is, for whoever watches, and what a later start must know of this one.
/// It is no part of the published schema; mobileclip_deploy/benchmark/ios/following.py reads it.
public struct RunProgress: Codable, Equatable, Sendable {
    /// paused: the first round of each cell is done, and its answers are to be judged before the others.
    public enum State: String, Codable, Sendable { case running, paused, finished, failed }
    /// How far a turn is. A model that the Neural Engine's compiler fails on can end the process in the first two.
    public enum Step: String, Codable, Sendable {
        case load, measuring
        case firstInference = "first_inference"
    }

    public var runId: String
    public var state: State
    /// One line, of state failed.
    public var error: String?
    public var finishedTurns: Int
    public var turns: Int
    /// The turn in progress, and how often it was begun: a process that dies in a turn begins it again.
    public var turn: Turn?
    public var attempt: Int
    /// The last step that the turn entered; nil before the first.
    public var step: Step?
    /// The device before the first round, however often the run was interrupted.
    public var before: Snapshot
}
