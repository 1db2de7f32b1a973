// The part of SwiftUI's interface that the app uses, so that its sources can be type-checked on Linux. It does nothing.
@_exported import Foundation
import UIKit

public protocol ObservableObject: AnyObject {}

@propertyWrapper public struct Published<Value> {
    public var wrappedValue: Value
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

@MainActor @propertyWrapper public struct StateObject<Value: ObservableObject> {
    public let wrappedValue: Value
    public init(wrappedValue: @autoclosure () -> Value) { self.wrappedValue = wrappedValue() }
}

@MainActor @propertyWrapper public struct ObservedObject<Value: ObservableObject> {
    public var wrappedValue: Value
    public init(wrappedValue: Value) { self.wrappedValue = wrappedValue }
}

@MainActor public protocol View {
    associatedtype Body: View
    @ViewBuilder var body: Body { get }
}

extension Never: View { public var body: Never { return fatalError() } }

/// A view without views of its own.
public protocol Leaf: View where Body == Never {}

extension Leaf { public var body: Never { return fatalError() } }

public struct Anything: Leaf {
    nonisolated public init() {}
}

@resultBuilder public enum ViewBuilder {
    public static func buildExpression<V: View>(_ view: V) -> Anything { Anything() }
    public static func buildBlock(_ views: Anything...) -> Anything { Anything() }
    public static func buildOptional(_ view: Anything?) -> Anything { Anything() }
    public static func buildEither(first: Anything) -> Anything { first }
    public static func buildEither(second: Anything) -> Anything { second }
}

public enum HierarchicalShapeStyle { case secondary }

extension View {
    public func navigationTitle(_ title: String) -> Anything { Anything() }
    public func refreshable(action: @escaping @Sendable () async -> Void) -> Anything { Anything() }
    public func disabled(_ disabled: Bool) -> Anything { Anything() }
    public func foregroundStyle(_ style: HierarchicalShapeStyle) -> Anything { Anything() }
    public func onAppear(perform action: (() -> Void)? = nil) -> Anything { Anything() }
}

public struct Text: Leaf {
    public init(_ text: String) {}
    public func bold() -> Text { self }
}

public struct Label: Leaf {
    public init(_ title: String, systemImage: String) {}
}

public struct Button: Leaf {
    public init(_ title: String, action: @escaping @MainActor () -> Void) {}
}

public struct List: Leaf {
    public init(@ViewBuilder content: () -> Anything) {}
}

public struct Section: Leaf {
    public init(@ViewBuilder content: () -> Anything) {}
    public init(_ title: String, @ViewBuilder content: () -> Anything) {}
}

public struct NavigationStack: Leaf {
    public init(@ViewBuilder root: () -> Anything) {}
}

public struct ForEach: Leaf {
    public init<Data: RandomAccessCollection>(_ data: Data, @ViewBuilder content: (Data.Element) -> Anything)
    where Data.Element: Identifiable {}
    public init<Data: RandomAccessCollection, ID: Hashable>(
        _ data: Data, id: KeyPath<Data.Element, ID>, @ViewBuilder content: (Data.Element) -> Anything
    ) {}
}

public struct ProgressView: Leaf {
    public init(value: Double?, total: Double, @ViewBuilder label: () -> Anything) {}
}

public struct LabeledContent: Leaf {
    public init(_ title: String, value: String) {}
}

public struct ShareLink: Leaf {
    public init(_ title: String, item: URL) {}
}

@MainActor public protocol Scene {}

public struct WindowGroup: Scene {
    public init(@ViewBuilder content: () -> Anything) {}
}

@resultBuilder public enum SceneBuilder {
    public static func buildBlock<S: Scene>(_ scene: S) -> S { scene }
}

@MainActor public protocol App {
    associatedtype Content: Scene
    @SceneBuilder var body: Content { get }
    init()
}

extension App {
    public static func main() {}
}
